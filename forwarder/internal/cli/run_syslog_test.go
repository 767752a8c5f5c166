package cli

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// A stock auditd starts its plugins with /dev/null as standard error: what is wrong is
// said to syslog then, and only then.
func TestPluginHeard(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	next := func() string {
		t.Helper()
		b := make([]byte, 4096)
		if err := server.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := server.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	args := []string{"--source=stdin", "--plugin"}
	for name, w := range map[string]io.Writer{"a file": os.Stdout, "a buffer": &strings.Builder{}} {
		if got := heard(w, args, socket); got != w {
			t.Errorf("%s: %T", name, got)
		}
	}
	if got := heard(null, args[:1], socket); got != io.Writer(null) {
		t.Errorf("of no dispatcher: %T", got)
	}
	w := heard(terminal.Guard(null), args, socket)
	logger := hclog.New(&hclog.LoggerOptions{Name: "forwarder", Output: terminal.GuardLog(w)})
	logger.Warn("waiting for the spool", "error", "two\nlines\x1b[2J")
	tag := " forwarder[" + strconv.Itoa(os.Getpid()) + "]: "
	if got := next(); !strings.HasPrefix(got, "<28>") || !strings.Contains(got, tag+"forwarder: waiting for the spool: ") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	if _, err := io.WriteString(w, "forwarder: --options: /etc/audit/x.conf:3: unknown keyword\n"); err != nil {
		t.Error(err)
	}
	if got := next(); !strings.HasPrefix(got, "<27>") || !strings.HasSuffix(got, tag+"forwarder: --options: /etc/audit/x.conf:3: unknown keyword") {
		t.Errorf("%q", got)
	}
	server.Close()
	if _, err := io.WriteString(w, "nobody hears\n"); err != nil {
		t.Error(err)
	}
}
