// Package holder says which process has the lock of a file, for somebody who waits for it.
package holder

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Of returns who holds the flock of the file: the process, 0 where it cannot be told, and words for it.
func Of(path string) (pid int, words string) {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, unknown
	}
	pid, waiting := owner(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino))
	if pid == 0 {
		return 0, unknown // or of another PID namespace
	}
	if said := command(pid); said != "" {
		return pid, fmt.Sprintf("pid %d (%s)", pid, said)
	}
	// The process that took the lock has ended, and one that it started has inherited the open file.
	for _, heir := range having(st) {
		if !waiting[heir] && heir != os.Getpid() {
			return heir, fmt.Sprintf("pid %d (%s), left behind by pid %d, which has ended", heir, command(heir), pid)
		}
	}
	return pid, fmt.Sprintf("pid %d, which has ended", pid)
}

// owner reads /proc/locks for the process that has the flock of the inode, and for those that wait for it.
func owner(locks, inode string) (pid int, waiting map[int]bool) {
	waiting = map[int]bool{}
	for line := range strings.Lines(locks) {
		// 1: FLOCK  ADVISORY  WRITE 708 fe:00:1234 0 EOF, and "1: -> FLOCK" for who waits.
		words := strings.Fields(line)
		waits := len(words) > 1 && words[1] == "->"
		if waits {
			words = words[1:]
		}
		if len(words) < 6 || words[1] != "FLOCK" || words[5] != inode {
			continue
		}
		n, _ := strconv.Atoi(words[4])
		if waits {
			waiting[n] = true
		} else {
			pid = n
		}
	}
	return pid, waiting
}

// command is the beginning of a process's command line, "" once it has ended.
func command(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 { // ended, and perhaps not waited for
		return ""
	}
	words := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	return words[:min(len(words), 100)]
}

// having lists the processes that have the file open.
func having(st unix.Stat_t) []int {
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, name := range names {
		var other unix.Stat_t
		if unix.Stat(name, &other) == nil && other.Dev == st.Dev && other.Ino == st.Ino {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}
