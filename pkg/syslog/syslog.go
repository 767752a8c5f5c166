// Package syslog writes messages to the host's own syslog socket, as syslog(3)
// does: no network, one datagram a message, and a limit for how long a write may wait.
// Any package of either daemon may import it; it imports nothing of ours.
package syslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Priority is a facility and a level, as syslog(3) combines them.
type Priority int

// The levels.
const (
	Emerg Priority = iota
	Alert
	Crit
	Err
	Warning
	Notice
	Info
	Debug
)

// The facilities an audit daemon uses.
const (
	User     Priority = 1 << 3
	Daemon   Priority = 3 << 3
	Auth     Priority = 4 << 3
	Syslog   Priority = 5 << 3
	AuthPriv Priority = 10 << 3
	Local0   Priority = 16 << 3
)

// Socket is the path of the socket on which the host's syslog daemon listens.
const Socket = "/dev/log"

// ParseWord reads the name of a level or of a facility as syslog.h has it
// (LOG_INFO, LOG_LOCAL3), in any case.
func ParseWord(word string) (p Priority, facility bool, err error) {
	name, ok := strings.CutPrefix(strings.ToUpper(word), "LOG_")
	if !ok {
		return 0, false, fmt.Errorf("%q is no level or facility of syslog, such as LOG_INFO or LOG_LOCAL0", word)
	}
	for i, level := range [...]string{"EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"} {
		if name == level {
			return Priority(i), false, nil
		}
	}
	if n, ok := strings.CutPrefix(name, "LOCAL"); ok && len(n) == 1 && n[0] >= '0' && n[0] <= '7' {
		return Local0 + Priority(n[0]-'0')<<3, true, nil
	}
	switch name {
	case "USER":
		return User, true, nil
	case "DAEMON":
		return Daemon, true, nil
	case "AUTH":
		return Auth, true, nil
	case "SYSLOG":
		return Syslog, true, nil
	case "AUTHPRIV":
		return AuthPriv, true, nil
	}
	return 0, false, fmt.Errorf("%q is no level or facility of syslog, such as LOG_INFO or LOG_LOCAL0", word)
}

// Writer sends messages under one tag. It connects when it is first needed and
// again after an error; it is safe for concurrent use.
type Writer struct {
	path, tag string
	timeout   time.Duration

	mu   sync.Mutex // guards what follows
	conn net.Conn
	buf  []byte
}

// New returns a Writer for the socket at path ("": Socket). tag stands before the colon of
// each message. A message that the socket does not accept within timeout is an error.
func New(path, tag string, timeout time.Duration) *Writer {
	if path == "" {
		path = Socket
	}
	return &Writer{path: path, tag: tag, timeout: timeout}
}

// Write sends one message. When the connection is lost (the syslog daemon was restarted),
// Write connects again, once. Any goroutine may call it.
func (w *Writer) Write(p Priority, text []byte) error {
	return w.WriteContext(context.Background(), p, text)
}

// WriteContext is Write, and waits no longer once ctx is done.
func (w *Writer) WriteContext(ctx context.Context, p Priority, text []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = fmt.Appendf(w.buf[:0], "<%d>%s %s: ", p, time.Now().Format(time.Stamp), w.tag)
	w.buf = append(w.buf, text...)
	fresh := w.conn == nil
	err := w.sendLocked(ctx)
	if err != nil && !fresh && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = w.sendLocked(ctx)
	}
	return err
}

func (w *Writer) sendLocked(ctx context.Context) error {
	if w.conn == nil {
		conn, err := net.Dial("unixgram", w.path)
		if err != nil {
			return fmt.Errorf("syslog: %w", err)
		}
		w.conn = conn
	}
	conn := w.conn
	err := conn.SetWriteDeadline(time.Now().Add(w.timeout))
	if err == nil {
		done := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
		_, err = conn.Write(w.buf)
		done()
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.Join(err, w.closeLocked())
	}
	return fmt.Errorf("syslog: %w", err)
}

func (w *Writer) closeLocked() error {
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	w.conn = nil
	return err
}

// Close closes the connection; Write opens it again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closeLocked()
}
