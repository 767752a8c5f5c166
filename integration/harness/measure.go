package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Measured holds the figures of a command that ran to its end or was ended at a limit.
type Measured struct {
	Code   int // -1: it was ended at the limit
	Stdout []byte
	Bytes  int64 // of its output
	Stderr []byte
	Wall   time.Duration
	First  time.Duration // until the first byte of output; 0 without any
	CPU    time.Duration
	Peak   int64 // resident bytes at most, as last seen
}

// Ended reports whether the command ended by itself.
func (m *Measured) Ended() bool { return m.Code >= 0 }

// Measure runs a command as Run does, for at most limit, and measures that process alone.
// It keeps the output if keep is set. The peak of memory is read from the living process,
// because the kernel's figure for an ended process includes this process's own memory.
func Measure(limit time.Duration, keep bool, args ...string) (*Measured, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = cleanEnv()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	m := &Measured{}
	done, peak := make(chan struct{}), make(chan int64, 1)
	go func() { peak <- watchPeak(cmd.Process.Pid, done) }()
	rerr := m.read(out, begin, keep)
	err = cmd.Wait()
	m.Wall = time.Since(begin)
	close(done)
	m.Peak = <-peak
	ended := late.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ended && rerr != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(args, " "), errors.Join(err, rerr))
	}
	m.Code, m.Stderr = cmd.ProcessState.ExitCode(), errs.Bytes()
	if ended && m.Code < 0 {
		return nil, fmt.Errorf("%s: %v: %s", strings.Join(args, " "), cmd.ProcessState, tail(errs.String()))
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	return m, nil
}

// read takes the output to its end.
func (m *Measured) read(out io.Reader, begin time.Time, keep bool) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := out.Read(buf)
		if n > 0 && m.Bytes == 0 {
			m.First = time.Since(begin)
		}
		m.Bytes += int64(n)
		if keep {
			m.Stdout = append(m.Stdout, buf[:n]...)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// watchPeak returns the most resident bytes of a process. It looks often at first,
// as many processes take no longer, and then seldom enough to cost nothing.
func watchPeak(pid int, done <-chan struct{}) (most int64) {
	path := "/proc/" + strconv.Itoa(pid) + "/status"
	for wait := time.Millisecond; ; wait = min(wait+wait/20, 200*time.Millisecond) {
		select {
		case <-done:
			return most
		case <-time.After(wait):
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, after, ok := strings.Cut(string(text), "VmHWM:")
		line, _, _ := strings.Cut(after, "\n")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
		if ok && err == nil {
			most = kib << 10 // it only grows, but for the moment before the program is there
		}
	}
}
