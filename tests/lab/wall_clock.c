/* Shifts CLOCK_REALTIME for one process by the seconds in the file that WALL_CLOCK_SHIFT names, read at each call.
   The other clocks are left alone, as settimeofday(2) leaves them alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = (int)syscall(SYS_clock_gettime, id, ts);
    if (result == 0 && id == CLOCK_REALTIME) {
        const char *path = getenv("WALL_CLOCK_SHIFT");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        char text[32] = {0};
        if (fd >= 0) {
            if (read(fd, text, sizeof text - 1) > 0) ts->tv_sec += atol(text);
            close(fd);
        }
    }
    return result;
}
