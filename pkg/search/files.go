package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Stdio is the streams of a command.
type Stdio struct {
	In       *os.File // read when it is a pipe and no log is named
	Out, Err io.Writer
}

// DefaultLog is where auditd writes unless its configuration says otherwise.
const DefaultLog = "/var/log/audit/audit.log"

// StockVersion is the ausearch that this package answers like.
const StockVersion = "3.0.9"

// Command is ausearch on log files: it parses args, searches and returns the
// exit code. logFile is the local log (empty: DefaultLog), whose rotated files
// are read too.
func Command(ctx context.Context, args []string, env Env, logFile string, stdio Stdio) int {
	o, err := ParseArgs(args, env)
	var usage *UsageError
	switch {
	case errors.Is(err, ErrNoOptions):
		fmt.Fprint(stdio.Out, Usage)
		return 1
	case errors.As(err, &usage):
		fmt.Fprintln(stdio.Err, usage.Text)
		return 1
	case err != nil:
		fmt.Fprintln(stdio.Err, err)
		return 1
	case o.Help:
		fmt.Fprint(stdio.Out, Usage)
		return 0
	case o.Version:
		fmt.Fprintln(stdio.Out, "ausearch version "+StockVersion+" in auditfleet")
		return 0
	}
	return RunFiles(ctx, o, env.Location, logFile, stdio)
}

// RunFiles searches what o names: -if's file or folder, a pipe on stdin, or the
// local log. It writes results and complaints as ausearch does and returns its
// exit code: 0 found, 1 nothing found or an error.
func RunFiles(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) int {
	if o.Warn == nil {
		o.Warn = warnTo(stdio.Err)
	}
	if o.Checkpoint != "" { // without it -ts checkpoint says nothing, as in the stock tool
		return runCheckpoint(ctx, o, loc, logFile, stdio)
	}
	if o.ownWay() {
		return runOwn(ctx, o, loc, logFile, stdio)
	}
	logs, err := OpenLogs(o.Input, o.InputLogs, logFile, stdio)
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	defer logs.Close()
	var skipped func(line []byte, err error)
	if o.Debug {
		skipped = func(line []byte, err error) {
			fmt.Fprintf(stdio.Err, "skipped: %v: %.200q\n", err, line)
		}
	}
	found, err := RunLogs(ctx, o, loc, logs, skipped, stdio.Out)
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	return o.Exit(found, stdio.Err)
}

// Exit returns the exit code for what was found, and says so where the stock
// tool does.
func (o *Options) Exit(found int, stderr io.Writer) int {
	if found > 0 {
		return 0
	}
	if o.Format != FormatRaw && !o.Count {
		fmt.Fprintln(stderr, "<no matches>")
	}
	return 1
}

// stdinName stands for standard input among the inputs.
const stdinName = "-"

// Logs are files that continue each other, or a pipe, open to be scanned once.
type Logs struct {
	readers []io.Reader
	files   []*os.File
}

// OpenLogs opens what -if (input) and --input-logs name, as ausearch and aureport
// understand them: a file, a folder's audit.log with its rotated ones, stdin when
// it is a pipe and nothing is named, or else the local log (logFile, empty is
// DefaultLog) with its rotated ones. The error is the stock tools' text.
func OpenLogs(input string, inputLogs bool, logFile string, stdio Stdio) (*Logs, error) {
	paths, err := inputs(input, inputLogs, logFile, stdio)
	if err != nil {
		return nil, err
	}
	return openAll(paths, stdio)
}

// damage is what was wrong with compressed logs, of which what could be unpacked
// was read.
func (l *Logs) damage() error {
	var errs []error
	for _, r := range l.readers {
		if z, ok := r.(*unpacking); ok && z.err != nil {
			errs = append(errs, z.err)
		}
	}
	return errors.Join(errs...)
}

// Close closes the files.
func (l *Logs) Close() {
	for _, r := range l.readers {
		if z, ok := r.(*unpacking); ok {
			z.stop()
		}
	}
	for _, f := range l.files {
		f.Close() // read only
	}
}

func inputs(input string, inputLogs bool, logFile string, stdio Stdio) ([]string, error) {
	if logFile == "" {
		logFile = DefaultLog
	}
	if input == "" {
		if !inputLogs && stdio.In != nil {
			if info, err := stdio.In.Stat(); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
				return []string{stdinName}, nil
			}
		}
		return rotated(logFile), nil
	}
	info, err := os.Stat(input)
	if err != nil {
		return nil, fmt.Errorf("stat: %s: %w", input, rootCause(err))
	}
	if !info.IsDir() {
		return []string{input}, nil
	}
	logFile = filepath.Join(input, "audit.log")
	fmt.Fprintf(stdio.Err, "NOTE - using logs in %s\n", logFile)
	return rotated(logFile), nil
}

// openAll opens all logs before any is read.
func openAll(paths []string, stdio Stdio) (*Logs, error) {
	logs := &Logs{}
	for _, path := range paths {
		if path == stdinName {
			logs.readers = append(logs.readers, pipe{stdio.In})
			continue
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			// It may have been compressed since it was listed.
			if packed, perr := os.Open(path + packedSuffixes[1]); perr == nil {
				f, err = packed, nil
			}
		}
		if err != nil {
			logs.Close()
			return nil, fmt.Errorf("Error opening %s (%w)", path, rootCause(err))
		}
		logs.files = append(logs.files, f)
		r, err := unpacked(f)
		if err != nil {
			logs.Close()
			return nil, fmt.Errorf("Error opening %s (%w)", path, rootCause(err))
		}
		logs.readers = append(logs.readers, r)
	}
	return logs, nil
}

// pipe is a standard input that others write to while it is read.
type pipe struct{ *os.File }

func (p pipe) wait(d time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(d/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// rootCause is a path error without its path, which the message has already.
func rootCause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
