package service

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// journalVar has the device and inode of the stream that leads to the journal.
const journalVar = "JOURNAL_STREAM"

// IsJournal reports whether f leads to systemd's journal. A program that was started under
// systemd, and whose output somebody has redirected, has the variable and another file.
func IsJournal(f *os.File) bool {
	named := os.Getenv(journalVar)
	return named != "" && f != nil && named == stream(f)
}

// stream is what the variable says of f; "" where f can't be looked at.
func stream(f *os.File) string {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// Priorities of syslog(3), which the journal knows a line's importance by.
const (
	prioErr, prioWarning, prioInfo, prioDebug = 3, 4, 6, 7
)

// levels are the words that a logger writes behind the time, or a JSON log as its level.
var levels = []struct {
	text, json string
	prio       int
}{
	{"[ERROR]", `"@level":"error"`, prioErr},
	{"[WARN]", `"@level":"warn"`, prioWarning},
	{"[INFO]", `"@level":"info"`, prioInfo},
	{"[DEBUG]", `"@level":"debug"`, prioDebug},
	{"[TRACE]", `"@level":"trace"`, prioDebug},
}

// Journal returns a writer that puts the priority of each line of a log before it, <3> for
// an error, which the journal takes off again; the time goes, for the journal has its own. A
// line without a level is an error's: what a program says as it ends. A line that
// continues an entry has its entry's priority.
func Journal(w io.Writer) io.Writer { return &journal{w: w} }

type journal struct {
	w io.Writer

	mu  sync.Mutex // guards buf, and keeps lines whole
	buf []byte
}

// Write implements io.Writer. Each call has whole lines, as loggers write them.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = j.buf[:0]
	prio := 0
	for line := range bytes.Lines(p) {
		found, rest := priority(line)
		switch {
		case found > 0:
			prio = found
		case prio == 0:
			prio = prioErr
		}
		j.buf = fmt.Appendf(j.buf, "<%d>", prio)
		j.buf = append(j.buf, rest...)
	}
	if _, err := j.w.Write(j.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// priority returns the priority that a line of a log states, 0 for none, and the line
// without its time.
func priority(line []byte) (prio int, rest []byte) {
	stamp, text, _ := bytes.Cut(line, []byte(" "))
	for _, l := range levels {
		if bytes.HasPrefix(text, []byte(l.text)) && len(stamp) > 0 && stamp[0] >= '0' && stamp[0] <= '9' {
			return l.prio, text
		}
		if bytes.HasPrefix(line, []byte("{"+l.json)) {
			return l.prio, line
		}
	}
	return 0, line
}
