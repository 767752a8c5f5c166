package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// KeyPrefix begins the key of every rule that a test adds, so that a later run recognises
// the rules that a killed test left.
const KeyPrefix = "auditfleet-test-"

// Kernel gives a test temporary control of the kernel's audit; Close restores the
// settings that OpenKernel found. The caller must hold the machine-wide lock of kernel
// tests (need.Kernel).
type Kernel struct {
	before map[string]int
	added  [][]string // arguments of -d for each rule added
}

func running(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// kernelStatus reads what `auditctl -s` shows as numbers.
func kernelStatus() (map[string]int, error) {
	r, err := Run(time.Minute, "/sbin/auditctl", "-s")
	if err != nil {
		return nil, err
	}
	if r.Code != 0 {
		return nil, fmt.Errorf("auditctl -s: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	st := map[string]int{}
	for _, line := range strings.Split(string(r.Stdout), "\n") {
		if f := strings.Fields(line); len(f) >= 2 {
			st[f[0]] = atoi(f[1])
		}
	}
	return st, nil
}

// OpenKernel saves the kernel's settings, once what a killed test left is put back. It
// returns an error if somebody else uses the audit (a daemon, rules).
func OpenKernel() (*Kernel, error) {
	var st map[string]int
	var err error
	// The daemon of a test that was killed may take a moment to be gone. The kernel goes on naming it until it
	// has a record for it.
	Poll(time.Minute, func() bool {
		st, err = kernelStatus()
		return err != nil || st["pid"] <= 0 || !running(st["pid"])
	})
	if err != nil {
		return nil, err
	}
	if st["enabled"] == 2 {
		return nil, fmt.Errorf("the kernel's audit is locked (enabled 2) until the next boot: nothing can be tested with it")
	}
	if pid := st["pid"]; pid > 0 && running(pid) {
		return nil, fmt.Errorf("pid %d is the registered audit daemon: stop it to run kernel tests", pid)
	}
	if err := PutBack(); err != nil {
		return nil, fmt.Errorf("put back what a killed test left: %w", err)
	}
	if st, err = kernelStatus(); err != nil {
		return nil, err
	}
	k := &Kernel{before: st}
	if rules, err := k.Rules(); err != nil {
		return nil, err
	} else if len(rules) > 0 {
		return nil, fmt.Errorf("the kernel has audit rules that are not a test's: remove them to run kernel tests (first: %s)", rules[0])
	}
	return k, k.note()
}

// noted is a file with the settings as they are to be put back: one that is there when a test begins was left by a
// test that was killed. It is gone with the boot whose settings they are.
const noted = "/run/auditfleet-kernel-test.before"

// settings are what a test may change, in the order in which they are put back, with auditctl's options.
var settings = []struct{ name, option string }{
	{"failure", "-f"}, {"rate_limit", "-r"}, {"backlog_limit", "-b"}, {"enabled", "-e"}, {"backlog_wait_time", "--backlog_wait_time"},
}

// note writes down what is to be put back.
func (k *Kernel) note() error {
	var text strings.Builder
	for _, s := range settings {
		fmt.Fprintln(&text, s.option, k.before[s.name])
	}
	return os.WriteFile(noted, []byte(text.String()), 0o600)
}

// PutBack removes the rules of tests and puts back the settings that a test noted which did not come to its end. A
// daemon that this process has started is ended first: the kernel's record of a setting then shows it that nobody is
// registered any more.
func PutBack() error {
	k := &Kernel{}
	if st, err := kernelStatus(); err == nil && st["pid"] > 0 {
		pid := st["pid"]
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(stat), ") ") // its state, and its parent
		if words := strings.Fields(rest); len(words) > 1 && words[1] == strconv.Itoa(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			Poll(time.Minute, func() bool { return !running(pid) })
		}
	}
	rules, err := k.Rules()
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if strings.Contains(rule, "key="+KeyPrefix) || strings.Contains(rule, "-k "+KeyPrefix) {
			if err := k.auditctl(append([]string{"-d"}, strings.Fields(rule)[1:]...)...); err != nil {
				return err
			}
		}
	}
	text, err := os.ReadFile(noted)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 2 { // not torn
			if err := k.auditctl(words...); err != nil {
				return err
			}
		}
	}
	return os.Remove(noted)
}

func (k *Kernel) auditctl(args ...string) error {
	r, err := Run(time.Minute, append([]string{"/sbin/auditctl"}, args...)...)
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("auditctl %s: exit %d: %s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return nil
}

// Rules returns the kernel's rules as auditctl prints them.
func (k *Kernel) Rules() ([]string, error) {
	r, err := Run(time.Minute, "/sbin/auditctl", "-l")
	if err != nil {
		return nil, err
	}
	var rules []string
	for _, line := range strings.Split(strings.TrimSpace(string(r.Stdout)), "\n") {
		if strings.HasPrefix(line, "-") {
			rules = append(rules, line)
		}
	}
	return rules, nil
}

// Add adds a rule (the words after -a); it must be narrowed to files below a
// folder of the test (exe=, dir=, path=) and have a key that begins with KeyPrefix.
func (k *Kernel) Add(rule ...string) error {
	text := strings.Join(rule, " ")
	if !strings.Contains(text, KeyPrefix) || (!strings.Contains(text, "exe=/") && !strings.Contains(text, "dir=/") && !strings.Contains(text, "path=/")) {
		return fmt.Errorf("rule %q is not narrow, or not marked as a test's", text)
	}
	if err := k.auditctl(append([]string{"-a"}, rule...)...); err != nil {
		return err
	}
	k.added = append(k.added, append([]string{"-d"}, rule...))
	return nil
}

// Status returns the kernel's present status; its keys are the names that `auditctl -s`
// prints.
func (k *Kernel) Status() (map[string]int, error) { return kernelStatus() }

// RemoveRules removes the rules that Add added.
func (k *Kernel) RemoveRules() error {
	var first error
	for ; len(k.added) > 0; k.added = k.added[:len(k.added)-1] {
		if err := k.auditctl(k.added[len(k.added)-1]...); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Close removes the rules, restores the settings and checks that they are restored.
func (k *Kernel) Close() error {
	first := k.RemoveRules()
	for _, s := range settings {
		if err := k.auditctl(s.option, fmt.Sprint(k.before[s.name])); err != nil && first == nil {
			first = err
		}
	}
	if first == nil {
		first = os.Remove(noted)
	}
	after, err := kernelStatus()
	if err != nil {
		if first == nil {
			first = err
		}
		return first
	}
	for _, s := range settings {
		if after[s.name] != k.before[s.name] && first == nil {
			first = fmt.Errorf("kernel audit %s is %d, was %d", s.name, after[s.name], k.before[s.name])
		}
	}
	return first
}
