package boot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process is a running process.
type Process struct {
	PID   int
	Name  string
	Start time.Duration // after the boot, to a hundredth of a second
	Pages int64         // resident
}

const (
	// userHZ is what /proc counts times in (USER_HZ), on every machine Go is made for.
	userHZ = 100
	// kernelThread is a flag of those that never make a system call (PF_KTHREAD).
	kernelThread = 0x00200000
)

// Processes lists the running processes, without the kernel's own threads: process 1
// first, then by size, the largest first.
func Processes(root string) ([]Process, error) {
	folder := filepath.Join(root, "/proc")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var list []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(folder, e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		p, kernels, err := parseStat(pid, stat)
		if err != nil {
			return nil, fmt.Errorf("%s/%d/stat: %w", folder, pid, err)
		}
		if !kernels {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Process) int {
		first := func(p Process) int {
			if p.PID == 1 {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.PID, b.PID))
	})
	return list, nil
}

var errStat = errors.New("not as proc(5) has it")

// parseStat reads /proc/PID/stat. A name may hold anything, parentheses too.
func parseStat(pid int, stat []byte) (p Process, kernels bool, err error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p, false, errStat
	}
	rest := strings.Fields(string(stat[end+1:]))
	if len(rest) < 22 {
		return p, false, errStat
	}
	// Fields are counted from 3, the state, here.
	flags, ferr := strconv.ParseUint(rest[9-3], 10, 64)
	start, serr := strconv.ParseInt(rest[22-3], 10, 64)
	pages, perr := strconv.ParseInt(rest[24-3], 10, 64)
	if err := errors.Join(ferr, serr, perr); err != nil {
		return p, false, err
	}
	p = Process{PID: pid, Name: string(stat[open+1 : end]), Start: time.Duration(start) * (time.Second / userHZ), Pages: pages}
	return p, flags&kernelThread != 0, nil
}

// Older returns the processes in list that started before since, when auditing was first
// on (after the boot).
func Older(list []Process, since time.Duration) []Process {
	var older []Process
	for _, p := range list {
		if p.Start < since.Truncate(time.Second/userHZ) {
			older = append(older, p)
		}
	}
	return older
}

// Names returns a text with at most n names of processes, each once, with the number of
// processes that have it.
func Names(list []Process, n int) string {
	var names []string
	times := map[string]int{}
	for _, p := range list {
		name := printable(p.Name)
		if times[name]++; times[name] == 1 {
			names = append(names, name)
		}
	}
	more := ""
	if len(names) > n {
		names, more = names[:n], ", …"
	}
	for i, name := range names {
		if times[name] > 1 {
			names[i] = fmt.Sprintf("%s (%d)", name, times[name])
		}
	}
	return strings.Join(names, ", ") + more
}

// printable keeps a process' name, which is its own to choose, from commanding a
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
