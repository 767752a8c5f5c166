package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// treeUse is what a process and all its descendants have used.
type treeUse struct {
	cpu  time.Duration
	peak int64 // bytes, the sum of each one's most
}

// procStat is what is wanted of /proc/PID/stat.
type procStat struct {
	parent        int
	self, waited  time.Duration // user and system: its own, and of ended children it has waited for
	threadsToNano time.Duration // the scheduler's own account of its living threads, in ns
}

const tick = time.Second / 100 // USER_HZ

func readProc(pid int) (procStat, error) {
	var s procStat
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	f := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	if len(f) < 15 {
		return s, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	num := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64) // the kernel's own number
		return n
	}
	ticks := func(n int64) time.Duration { return time.Duration(n * int64(tick)) }
	s.parent = int(num(1))
	s.self, s.waited = ticks(num(11)+num(12)), ticks(num(13)+num(14))
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return s, err
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		on, _, _ := strings.Cut(string(text), " ")
		ns, _ := strconv.ParseInt(on, 10, 64)
		s.threadsToNano += time.Duration(ns)
	}
	return s, nil
}

// cpu is in ticks of 10 ms where threads have ended, else exact.
func (s procStat) cpu() time.Duration {
	if s.self-s.threadsToNano > tick {
		return s.self + s.waited
	}
	return s.threadsToNano + s.waited
}

func peakOf(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(f[0], 10, 64)
	return kib << 10
}

// useOf sums up a process and its descendants. A child that ended meanwhile
// counts with the one that waited for it.
func useOf(root int) (treeUse, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return treeUse{}, err
	}
	all := map[int]procStat{}
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		text, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue
		}
		if f := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:]); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			all[pid] = procStat{parent: parent}
		}
	}
	var u treeUse
	for pid := range all {
		for up, steps := pid, 0; up > 1 && steps < 16; up, steps = all[up].parent, steps+1 {
			if up != root {
				continue
			}
			s, err := readProc(pid)
			if err == nil {
				u.cpu += s.cpu()
				u.peak += peakOf(pid)
			} else if pid == root {
				return u, err
			}
			break
		}
	}
	return u, nil
}

// settleTree waits until a tree of processes has used no CPU to speak of for
// quiet, at most limit, and says whether it did.
func settleTree(root int, quiet, limit time.Duration) (treeUse, bool, error) {
	last, err := useOf(root)
	if err != nil {
		return last, false, err
	}
	since, end := time.Now(), time.Now().Add(limit)
	for time.Now().Before(end) {
		time.Sleep(quiet / 5)
		now, err := useOf(root)
		if err != nil {
			return last, false, err
		}
		now.peak = max(now.peak, last.peak)
		if now.cpu-last.cpu > 2*time.Millisecond {
			last, since = now, time.Now()
			continue
		}
		last.peak = now.peak
		if time.Since(since) >= quiet {
			return now, true, nil
		}
	}
	return last, false, nil
}

// kauditd is the CPU time of the kernel's thread that hands records to the daemon.
func kauditd() time.Duration {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && string(text) == "kauditd\n" {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(name), "schedstat"))
			if err != nil {
				return 0
			}
			on, _, _ := strings.Cut(string(text), " ")
			ns, _ := strconv.ParseInt(on, 10, 64)
			return time.Duration(ns)
		}
	}
	return 0
}

// lockKernel takes the lock that all users of the kernel's audit in this tree's
// tests hold. Closing the file gives it back.
func lockKernel() (*os.File, error) {
	f, err := os.OpenFile("/run/auditfleet-kernel-test.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeTiny writes the smallest program there is: it exits. A program that is
// started 1,000 times a second must not be what takes the time.
func writeTiny(path string) error {
	code, machine := []byte("\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"), uint16(62) // mov eax,60; xor edi,edi; syscall
	switch runtime.GOARCH {
	case "amd64":
	case "arm64": // mov x8,#93; mov x0,#0; svc #0
		code, machine = []byte("\xa8\x0b\x80\xd2\x00\x00\x80\xd2\x01\x00\x00\xd4"), 183
	default:
		return fmt.Errorf("no tiny program for %s", runtime.GOARCH)
	}
	const base, head = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head)
	b = le.AppendUint64(b, 64)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 5)
	for _, v := range []uint64{0, base, base, uint64(head + len(code)), uint64(head + len(code)), 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return os.WriteFile(path, append(b, code...), 0o755)
}
