package logscan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/record"
	"golang.org/x/sys/unix"
)

// DefaultLog is the path to which auditd writes unless its configuration names another.
const DefaultLog = "/var/log/audit/audit.log"

// Stdin stands for standard input in a list of log paths.
const Stdin = "-"

// Logs are open files that continue each other, or a pipe. They can be scanned once. The
// caller must call Close.
type Logs struct {
	readers []io.Reader
	files   []*os.File
}

// Input selects the logs to read, as ausearch and aureport do. If Path is a file, it is
// that file; if Path is a folder, it is the folder's audit.log with its rotated logs.
// Without Path it is In where that is a pipe, and otherwise the local log with its
// rotated logs.
type Input struct {
	Path    string    // -if
	Logs    bool      // --input-logs: read the local log even if In is a pipe
	Stdin   bool      // read In, whatever it is
	LogFile string    // path of the local log; empty stands for DefaultLog
	In      *os.File  // standard input; may be nil
	Notes   io.Writer // receives a line that says which logs of a folder are read
}

// Open opens the logs. Its error has the stock tools' text.
func (in *Input) Open() (*Logs, error) {
	paths, err := in.Files()
	if err != nil {
		return nil, err
	}
	return in.OpenFiles(paths)
}

// Damage returns the errors of compressed logs, after a scan. What could be unpacked
// before the damage was read.
func (l *Logs) Damage() error {
	var errs []error
	for _, r := range l.readers {
		if z, ok := r.(packed); ok {
			errs = append(errs, z.damage())
		}
	}
	return errors.Join(errs...)
}

// Close closes the files.
func (l *Logs) Close() {
	for _, r := range l.readers {
		if z, ok := r.(packed); ok {
			z.close()
		}
	}
	for _, f := range l.files {
		f.Close() // read only
	}
}

// Files returns the paths of the logs, the oldest first; Stdin stands for a pipe.
func (in *Input) Files() ([]string, error) {
	if in.Stdin {
		return []string{Stdin}, nil
	}
	if in.Path == "" {
		if !in.Logs && in.In != nil {
			if info, err := in.In.Stat(); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
				return []string{Stdin}, nil
			}
		}
		return rotated(cmp.Or(in.LogFile, DefaultLog)), nil
	}
	info, err := os.Stat(in.Path)
	if err != nil {
		return nil, fmt.Errorf("stat: %s: %w", in.Path, fsys.Cause(err))
	}
	if !info.IsDir() {
		return []string{in.Path}, nil
	}
	logFile := filepath.Join(in.Path, "audit.log")
	fmt.Fprintf(in.Notes, "NOTE - using logs in %s\n", logFile)
	return rotated(logFile), nil
}

// OpenFiles opens some of the paths that Files returned, all of them before any is read.
func (in *Input) OpenFiles(paths []string) (*Logs, error) {
	logs := &Logs{}
	for _, path := range paths {
		if path == Stdin {
			logs.readers = append(logs.readers, newPipe(in.In))
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
			return nil, notOpened(path, err)
		}
		logs.files = append(logs.files, f)
		r, err := unpacked(f)
		if err != nil {
			logs.Close()
			return nil, notOpened(path, err)
		}
		logs.readers = append(logs.readers, r)
	}
	return logs, nil
}

// notOpened says in the stock tools' words that a log could not be opened.
func notOpened(path string, err error) error {
	return fmt.Errorf("Error opening %s (%w)", path, fsys.Cause(err))
}

// pipe is a standard input to which other processes write while it is read.
type pipe struct {
	stream
	file *os.File
}

func newPipe(f *os.File) *pipe { return &pipe{stream{in: f, name: "stdin"}, f} }

func (p *pipe) wait(d time.Duration) (bool, error) {
	if p.z != nil || len(p.head) > 0 || p.err != nil {
		return true, nil //nolint:nilerr // Read returns it. What is unpacked need not be in the pipe any more.
	}
	fds := []unix.PollFd{{Fd: int32(p.file.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(d/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// Each calls fn for each of the logs with its name, as Logs of a single log.
func (l *Logs) Each(fn func(name string, log *Logs) error) error {
	for _, r := range l.readers {
		name := "stdin"
		if f, ok := r.(interface{ Name() string }); ok {
			name = f.Name()
		}
		if err := fn(name, &Logs{readers: []io.Reader{r}}); err != nil {
			return err
		}
	}
	return nil
}

// FirstMs returns the time of the first record of the first log, in milliseconds since
// the epoch. It returns 0 where finding it would consume input, as from a pipe.
func (l *Logs) FirstMs() int64 {
	if len(l.readers) == 0 {
		return 0
	}
	f, ok := l.readers[0].(io.ReaderAt)
	if !ok {
		return 0
	}
	buf := make([]byte, 8*maxLine)
	n, _ := f.ReadAt(buf, 0) // an error is found by who reads on
	for line := range bytes.Lines(buf[:n]) {
		var r record.Record
		if _ = r.Parse(line); r.IsRecord() {
			return r.Ms()
		}
	}
	return 0
}
