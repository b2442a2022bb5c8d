/*
 * The yardstick of poll.py: the same Modbus TCP reads with libmodbus, one connection per device, nothing decoded.
 *
 *   poll_libmodbus PERIOD_MS SECONDS REGISTERS PORT...
 *
 * Reads all devices once per period and prints "<reads> <failed reads> <CPU seconds>". The first period, with the connects,
 * is not counted.
 */
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    const int64_t period_ns = atoll(argv[1]) * 1000000LL;
    const int cycles = (int)(atof(argv[2]) * 1e9 / period_ns);
    const int registers = atoi(argv[3]);
    const int devices = argc - 4;
    modbus_t **lines = calloc(devices, sizeof *lines);
    uint16_t values[MODBUS_MAX_READ_REGISTERS];
    long reads = 0, failed = 0;

    if (lines == NULL || registers < 1 || registers > MODBUS_MAX_READ_REGISTERS)
        return 2;
    for (int at = 0; at < devices; at++) {
        lines[at] = modbus_new_tcp("127.0.0.1", atoi(argv[4 + at]));
        if (lines[at] == NULL || modbus_connect(lines[at]) != 0) {
            fprintf(stderr, "port %s: %s\n", argv[4 + at], modbus_strerror(errno));
            return 1;
        }
        modbus_set_slave(lines[at], 1);
    }
    int64_t due = now_ns();
    double before = 0.0;
    for (int cycle = 0; cycle <= cycles; cycle++) {
        if (cycle == 1)
            before = cpu_s();
        for (int at = 0; at < devices; at++) {
            const int found = modbus_read_input_registers(lines[at], 0, registers, values);
            if (cycle > 0) {
                reads++;
                failed += found != registers;
            }
        }
        due += period_ns;
        const int64_t rest = due - now_ns();
        if (rest > 0) {
            const struct timespec pause = {rest / 1000000000LL, rest % 1000000000LL};
            nanosleep(&pause, NULL);
        } else {
            due = now_ns();
        }
    }
    printf("%ld %ld %.6f\n", reads, failed, cpu_s() - before);
    for (int at = 0; at < devices; at++) {
        modbus_close(lines[at]);
        modbus_free(lines[at]);
    }
    free(lines);
    return 0;
}
