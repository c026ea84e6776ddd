//! Whether the programs' stacks are small enough, on kernels that are not at hand too.

use std::collections::{BTreeMap, HashMap, HashSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::load::OBJECT;

/// MAX_BPF_STACK
const MOST: u32 = 512;

/// `check_max_stack_depth` adds up what the functions of a chain of calls need, each rounded up: to 32 bytes, and
/// since Linux 6.9 (`round_up_stack_depth`) to 16 if the program is compiled.
const ROUNDED_TO: u32 = 32;

/// BPF_JMP | BPF_CALL
const CALL: u8 = 0x85;
/// BPF_LD | BPF_IMM | BPF_DW
const LOAD_WIDE: u8 = 0x18;
/// BPF_PSEUDO_CALL
const OF_THE_PROGRAM: u8 = 1;
/// BPF_PSEUDO_FUNC
const FUNCTION: u8 = 4;
/// BPF_ALU64 | BPF_MOV | BPF_X
const COPY: u8 = 0xbf;
/// BPF_ALU64 | BPF_ADD | BPF_K
const ADD: u8 = 0x07;
const FRAME: u8 = 10;

/// Where the function begins that this instruction calls, or has called.
fn callee(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let calls = instruction.code == CALL && instruction.src_reg() == OF_THE_PROGRAM;
    let hands_over = instruction.code == LOAD_WIDE && instruction.src_reg() == FUNCTION;
    (calls || hands_over).then(|| (at + 1).wrapping_add_signed(instruction.imm as isize))
}

/// How much of its stack a function uses: the furthest that is read, written or pointed to.
fn used(function: &[bpf_insn]) -> u32 {
    let mut used = 0;
    let mut frames = HashSet::new();
    for instruction in function {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let below = match instruction.code & 0x07 {
            // BPF_LDX
            1 if from == FRAME => -i32::from(instruction.off),
            // BPF_ST, BPF_STX
            2 | 3 if to == FRAME => -i32::from(instruction.off),
            _ if instruction.code == ADD && frames.contains(&to) => -instruction.imm,
            _ => 0,
        };
        used = used.max(u32::try_from(below).unwrap_or(0));
        if instruction.code == COPY && from == FRAME {
            frames.insert(to);
        } else if matches!(instruction.code & 0x07, 0 | 1 | 4 | 7) {
            frames.remove(&to);
        }
    }
    used
}

/// The most that a chain of calls from this function needs, and the stacks of that chain.
fn deepest(
    begin: usize,
    functions: &BTreeMap<usize, (u32, Vec<usize>)>,
    known: &mut HashMap<usize, (u32, Vec<u32>)>,
) -> (u32, Vec<u32>) {
    if let Some(known) = known.get(&begin) {
        return known.clone();
    }
    let (used, callees) = &functions[&begin];
    let below = callees.iter().map(|callee| deepest(*callee, functions, known)).max().unwrap_or_default();
    let whole = (used.max(&1).next_multiple_of(ROUNDED_TO) + below.0, [&[*used], &below.1[..]].concat());
    known.insert(begin, whole.clone());
    whole
}

#[test]
fn the_programs_stacks_are_small_enough_for_kernels_that_round_them_up_further() {
    let mut object = Object::parse(OBJECT).expect("the object");
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).expect("its calls");
    assert_eq!(object.programs.len(), super::load::PROGRAMS.len());
    for (name, program) in &object.programs {
        let code = &object.functions[&program.function_key()].instructions;
        let mut begins: Vec<_> =
            code.iter().enumerate().filter_map(|(at, instruction)| callee(at, instruction)).collect();
        begins.push(0);
        begins.sort_unstable();
        begins.dedup();
        let ends = begins[1..].iter().copied().chain([code.len()]);
        let functions: BTreeMap<_, _> = begins
            .iter()
            .copied()
            .zip(ends)
            .map(|(begin, end)| {
                let function = &code[begin..end];
                let calls = |(at, instruction)| callee(begin + at, instruction);
                (begin, (used(function), function.iter().enumerate().filter_map(calls).collect()))
            })
            .collect();
        let (most, chain) = deepest(0, &functions, &mut HashMap::new());
        assert!(most <= MOST, "{name}: {most} bytes, by functions with {chain:?}");
    }
}
