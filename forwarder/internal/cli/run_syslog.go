package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// syslogWait is how long a message waits at most for a syslog that does not accept it.
const syslogWait = 50 * time.Millisecond

// heard returns where a daemon's messages go: to standard error, or to the syslog at
// socket where standard error is /dev/null. A stock auditd starts its plugins so, and
// nobody would learn what is wrong with a plugin's options.
func heard(stderr io.Writer, args []string, socket string) io.Writer {
	f, ok := terminal.File(stderr)
	if !ok || !isNull(f) || !underDispatcher() && !slices.Contains(args, "--plugin") {
		return stderr
	}
	return &syslogLines{syslog.New(socket, fmt.Sprintf("forwarder[%d]", os.Getpid()), syslogWait)}
}

// isNull reports whether a file is /dev/null.
func isNull(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// syslogLines writes each entry of a logger as one syslog message; of other text it
// writes each line as one message. It has no state of its own and syslog.Writer locks
// itself, so any goroutine may call Write.
type syslogLines struct{ to *syslog.Writer }

// logged matches the beginning of a logger's entry, which is removed because syslog
// records time and level itself.
var logged = regexp.MustCompile(`^\S+ \[(TRACE|DEBUG|INFO|WARN|ERROR)\] *`)

// Write implements io.Writer. A message that cannot be sent is dropped, because there is
// no other place to report it.
func (s *syslogLines) Write(p []byte) (int, error) {
	if m := logged.FindSubmatch(p); m != nil {
		s.send(levels[string(m[1])], bytes.Join(bytes.Fields(p[len(m[0]):]), []byte(" ")))
		return len(p), nil
	}
	for line := range bytes.Lines(p) {
		s.send(syslog.Err, bytes.TrimSpace(line)) // the error that ends the program
	}
	return len(p), nil
}

func (s *syslogLines) send(level syslog.Priority, text []byte) {
	if len(text) > 0 {
		_ = s.to.Write(syslog.Daemon|level, text)
	}
}

var levels = map[string]syslog.Priority{
	"TRACE": syslog.Debug, "DEBUG": syslog.Debug, "INFO": syslog.Info, "WARN": syslog.Warning, "ERROR": syslog.Err,
}
