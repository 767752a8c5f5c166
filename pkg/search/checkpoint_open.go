package search

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// openLogs are the logs from the one on that a checkpoint names.
type openLogs struct {
	*logscan.Logs
	listed  []string // with those before it
	piped   bool
	now     func() time.Time
	timeout time.Duration
	newest  *os.File
	written time.Time // the newest one, as it was opened
}

// openTries is how often logs are opened that are rotated meanwhile, gapTries how often a
// number among them may be missing for that reason, and openPause how long it may take.
const (
	openTries = 25
	gapTries  = 5
	openPause = 20 * time.Millisecond
)

// openFrom opens the logs that a search has to read that goes on from a checkpoint; nil
// stands for none. They are those that were there at one moment, also while others rotate
// and compress them.
func openFrom(o *Options, in logscan.Input, from *checkpoint) (*openLogs, error) {
	for try := 1; ; try++ {
		logs, err := openOnce(o, &in, from)
		in.Notes = io.Discard
		switch gone := (*CheckpointError)(nil); {
		case err != nil && (try == openTries || !errors.As(err, &gone) && !errors.Is(err, fs.ErrNotExist)):
			return nil, err
		case err == nil && (try == openTries || logs.piped || logs.are(&in, try > gapTries)):
			return logs, nil
		case err == nil:
			logs.Close()
		}
		time.Sleep(openPause)
	}
}

func openOnce(o *Options, in *logscan.Input, from *checkpoint) (*openLogs, error) {
	paths, err := in.Files()
	if err != nil {
		return nil, err
	}
	l := &openLogs{listed: paths, now: time.Now, timeout: cmp.Or(o.EOETimeout, lateness*time.Second)}
	if !o.now.IsZero() {
		l.now = func() time.Time { return o.now }
	}
	switch {
	case slices.Contains(paths, logscan.Stdin):
		l.piped = true
		fmt.Fprintln(in.Notes, "Warning - checkpointing stdin is not supported")
	case from != nil && !from.nothing && !o.CheckpointTime && (o.Input == "" || paths[0] != o.Input):
		i := from.log.find(paths)
		if i < 0 {
			return nil, &CheckpointError{codeInvalid, "the log that " + o.Checkpoint + " speaks of is gone; --start checkpoint goes on by its time"}
		}
		paths = paths[i:]
	}
	if l.Logs, err = in.OpenFiles(paths); err != nil {
		return nil, err
	}
	if l.newest = l.File(len(paths) - 1); l.newest != nil {
		l.written = modified(l.newest)
	}
	return l, nil
}

// are says whether the open logs are those that in names now. In the midst of a rotation the
// paths name others, there are more of them, or those behind a number that is missing (gap)
// are not found.
func (l *openLogs) are(in *logscan.Input, gap bool) bool {
	now, err := in.Files()
	if err != nil || !slices.Equal(now, l.listed) || !gap && now[0] != in.Path && logscan.Rotating(now) {
		return false
	}
	for i, path := range now[len(now)-l.Len():] {
		is, err := os.Stat(path)
		was, werr := l.File(i).Stat()
		if err != nil || werr != nil || !os.SameFile(is, was) {
			return false
		}
	}
	return true
}

// quiet says whether the newest log was not written to for as long as an event may be
// incomplete, so that nothing comes any more for those in it. A time of writing in the
// future is one before the clock was set back.
func (l *openLogs) quiet() bool {
	if l.newest == nil {
		return l.piped
	}
	age := l.now().Sub(l.written).Abs()
	return !l.written.IsZero() && age >= l.timeout && modified(l.newest).Equal(l.written)
}

// modified returns when a file was written to; the zero time when that is not known.
func modified(f *os.File) time.Time {
	info, err := f.Stat()
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
