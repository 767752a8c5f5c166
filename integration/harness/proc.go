package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec describes a child process to start.
type Spec struct {
	Name string // for messages
	Args []string
	Dir  string
	Env  []string  // added to a clean environment with TZ=UTC, LC_ALL=C
	In   io.Reader // an *os.File is handed over as it is, anything else through a pipe; nil is /dev/null
	Out  io.Writer // standard output; nil keeps it with the log
	Bind [][2]string
	// Bind lists {from, to}: the program runs in a mount namespace of its own in
	// which each `from` is mounted over `to`, for programs whose paths are fixed.
}

// Proc is a child process whose output is kept.
type Proc struct {
	Name string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
	err  error // of Wait; valid once done is closed
}

// logBuffer keeps the last logKeep bytes a child wrote.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text []byte
}

const logKeep = 64 << 10

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 2*logKeep {
		l.text = append([]byte(nil), l.text[len(l.text)-logKeep:]...)
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// cleanEnv is what every child has, whatever this process was started with. By TMPDIR tidy.sh knows it for ours.
func cleanEnv() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TZ=UTC", "LC_ALL=C"}
	if dir := os.Getenv("TMPDIR"); dir != "" {
		env = append(env, "TMPDIR="+dir)
	}
	return env
}

// Start starts a child process. The kernel kills it when this process dies.
func Start(s Spec) (*Proc, error) {
	args := s.Args
	if len(s.Bind) > 0 {
		var script strings.Builder
		var names []string
		for i, b := range s.Bind {
			fmt.Fprintf(&script, `mount --bind "$%d" "$%d" && `, 2*i+1, 2*i+2)
			names = append(names, b[0], b[1])
		}
		fmt.Fprintf(&script, `shift %d && exec "$@"`, len(names))
		args = append(append([]string{"unshare", "-m", "sh", "-c", script.String(), s.Name}, names...), s.Args...)
	}
	p := &Proc{Name: s.Name, log: &logBuffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = s.Dir
	p.cmd.Env = append(cleanEnv(), s.Env...)
	p.cmd.Stdin = s.In
	p.cmd.Stderr = p.log
	p.cmd.Stdout = p.log
	if s.Out != nil {
		p.cmd.Stdout = s.Out
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A child that leaves children of its own behind must not block Wait for ever.
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Pid returns the child's process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the child has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Exited reports whether the child has ended.
func (p *Proc) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Output returns the last part of what the child wrote.
func (p *Proc) Output() string { return p.log.String() }

// Wait waits for the child's end and returns its error together with its output. If the
// child has not ended after limit, Wait kills it and returns an error that says so.
func (p *Proc) Wait(limit time.Duration) error {
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s still ran after %v and was killed; its output:\n%s", p.Name, limit, p.Output())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w; its output:\n%s", p.Name, p.err, p.Output())
	}
	return nil
}

// errEnded stands in for the error of a child that ended with 0 too early.
var errEnded = errors.New("exit status 0")

// ended is why a child that was to go on has ended.
func (p *Proc) ended() error {
	if p.err == nil {
		return errEnded
	}
	return p.err
}

// ExitCode returns the exit code of a child that has ended, or -1 if a signal ended it.
func (p *Proc) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig to the child.
func (p *Proc) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the child with SIGKILL and waits for its end.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Terminate ends the child with SIGTERM and expects it to end with 0 (or by the
// signal, as the stock plugins do) within limit.
func (p *Proc) Terminate(limit time.Duration) error {
	if p.Exited() {
		return fmt.Errorf("%s had ended by itself: %w; its output:\n%s", p.Name, p.ended(), p.Output())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	err := p.Wait(limit)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	return err
}

// Usage holds what a process has used of the machine.
type Usage struct {
	CPU     time.Duration // user and system
	WakeUps uint64        // of its threads that live: how often one waited for something; 0 once the child has ended
	RSS     int64         // bytes now; 0 once the child has ended
	PeakRSS int64         // bytes
}

// Usage of the child alone, living (to 10 ms) or ended (exact CPU; of the memory
// the kernel then also counts what this process had when it started the child).
func (p *Proc) Usage() (Usage, error) {
	if p.Exited() {
		ru, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			return Usage{}, fmt.Errorf("no resource usage of %s", p.Name)
		}
		return Usage{
			CPU:     time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
			PeakRSS: ru.Maxrss * 1024,
		}, nil
	}
	return usageOf(p.Pid())
}

func usageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The name in parentheses may hold anything, so count from its end.
	text := string(stat)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 22 {
		return Usage{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	const tick = time.Second / 100 // USER_HZ, fixed for user space on every architecture we run on
	u := Usage{CPU: time.Duration(atoi(f[11])+atoi(f[12])) * tick}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			u.RSS = kib << 10
		case "VmHWM":
			u.PeakRSS = kib << 10
		}
	}
	u.WakeUps, err = wakeUpsOf(pid)
	return u, err
}

// wakeUpsOf adds up the voluntary switches of a process's threads: a thread that waits is woken.
func wakeUpsOf(pid int) (n uint64, _ error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, line := range strings.Split(string(status), "\n") {
			if value, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				k, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", file, err)
				}
				n += k
			}
		}
	}
	return n, nil
}

// Settle waits until the process has used no CPU for `quiet`, at most limit.
func (p *Proc) Settle(quiet, limit time.Duration) error {
	last, err := p.Usage()
	if err != nil {
		return err
	}
	since := time.Now()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		time.Sleep(quiet / 10)
		now, err := p.Usage()
		if err != nil {
			return err
		}
		if now.CPU-last.CPU > 10*time.Millisecond {
			last, since = now, time.Now()
		} else if time.Since(since) >= quiet {
			return nil
		}
	}
	return fmt.Errorf("%s did not come to rest in %v", p.Name, limit)
}

// Result holds the output and figures of a command that ran to its end.
type Result struct {
	Code   int
	Stdout []byte
	Stderr []byte
	Wall   time.Duration
	CPU    time.Duration
	Peak   int64 // resident bytes at most
}

// ErrStillRan is returned when a command did not end in time and was killed.
var ErrStillRan = errors.New("still ran")

// Run runs a command to its end (TZ=UTC, LC_ALL=C, standard input /dev/null).
// An exit code other than 0 is no error. With an error, too, there is a result, with what the command has said.
func Run(limit time.Duration, args ...string) (*Result, error) {
	return RunInput(limit, nil, args...)
}

// RunInput is Run with a standard input.
func RunInput(limit time.Duration, in io.Reader, args ...string) (*Result, error) {
	var out, errOut strings.Builder
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = cleanEnv()
	cmd.Stdin = in
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return &Result{Code: -1}, fmt.Errorf("start %s: %w", args[0], err)
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	r := &Result{Code: cmd.ProcessState.ExitCode(), Stdout: []byte(out.String()), Stderr: []byte(errOut.String()), Wall: time.Since(begin)}
	if !timer.Stop() {
		return r, fmt.Errorf("%s %w after %v and was killed:\n%s%s", strings.Join(args, " "), ErrStillRan, limit, tail(out.String()), tail(errOut.String()))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
		r.Peak = ru.Maxrss * 1024
	}
	return r, nil
}

func tail(s string) string {
	if len(s) > 4096 {
		return "…" + s[len(s)-4096:]
	}
	return s
}

// Owner returns the user that a file belongs to, -1 where that is not known.
func Owner(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
