mod operator;
mod random;
mod restart;
mod survival;
mod world;
