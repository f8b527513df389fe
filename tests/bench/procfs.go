package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTicks is USER_HZ, the unit of /proc/PID/stat: 100 per second on every Linux that Go runs on.
const clockTicks = 100

// residentMegabytes is the sum of VmRSS of the processes, in MB of 2^20 bytes.
func residentMegabytes(pids []int) (float64, error) {
	var kilobytes float64
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, after, found := strings.Cut(string(status), "VmRSS:")
		fields := strings.Fields(after)
		if !found || len(fields) == 0 {
			return 0, fmt.Errorf("process %d has no VmRSS", pid)
		}
		size, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, err
		}
		kilobytes += size
	}
	return kilobytes / 1024, nil
}

// cpuSecondsOver is the CPU time that the processes use while the duration passes.
func cpuSecondsOver(ctx context.Context, pids []int, d time.Duration) (float64, error) {
	before, err := cpuSeconds(pids)
	if err != nil {
		return 0, err
	}
	if err := letPass(ctx, d); err != nil {
		return 0, err
	}
	after, err := cpuSeconds(pids)
	return after - before, err
}

// cpuSeconds is the sum of user and system time of the processes since they started.
func cpuSeconds(pids []int) (float64, error) {
	var ticks float64
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The second field is the name in parentheses, which may hold spaces; utime and stime are the 14th
		// and 15th.
		after := stat[strings.LastIndexByte(string(stat), ')')+1:]
		fields := strings.Fields(string(after))
		const utime, stime = 11, 12
		if len(fields) <= stime {
			return 0, fmt.Errorf("process %d: unexpected stat %q", pid, stat)
		}
		for _, field := range []string{fields[utime], fields[stime]} {
			n, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return ticks / clockTicks, nil
}

// letPass lets time pass.
func letPass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
