package syslog

import (
	"errors"
	"net"
	"os"
	"regexp"
	"testing"
	"time"
)

func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestWrite(t *testing.T) {
	path := t.TempDir() + "/log"
	w := New(path, "audispd", time.Second)
	defer w.Close()
	if err := w.Write(Info, []byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a socket: %v", err)
	}
	read := func(c *net.UnixConn) string {
		buf := make([]byte, 100)
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	want := regexp.MustCompile(`^<157>[A-Z][a-z]{2} [ 1-3][0-9] [0-9:]{8} audispd: type=X$`)
	for range 2 { // the second time the daemon was restarted
		c := listen(t, path)
		if err := w.Write(Local0+3<<3+Notice, []byte("type=X")); err != nil {
			t.Fatal(err)
		}
		if got := read(c); !want.MatchString(got) {
			t.Errorf("%q", got)
		}
		c.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A syslog daemon that hangs costs the timeout, not more.
func TestTimeout(t *testing.T) {
	path := t.TempDir() + "/log"
	listen(t, path)
	w := New(path, "t", 20*time.Millisecond)
	defer w.Close()
	var err error
	for range 10000 {
		if err = w.Write(Info, make([]byte, 8000)); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want a timeout", err)
	}
}

func TestParseWord(t *testing.T) {
	for word, want := range map[string]struct {
		p        Priority
		facility bool
	}{"LOG_EMERG": {0, false}, "LOG_INFO": {6, false}, "log_debug": {7, false}, "LOG_LOCAL0": {128, true}, "LOG_LOCAL7": {184, true}, "LOG_AUTHPRIV": {80, true}, "LOG_USER": {8, true}} {
		p, facility, err := ParseWord(word)
		if p != want.p || facility != want.facility || err != nil {
			t.Errorf("%s: %d %v %v", word, p, facility, err)
		}
	}
	for _, word := range []string{"", "INFO", "LOG_", "LOG_LOCAL8", "LOG_LOCAL", "LOG_KERNEL"} {
		if _, _, err := ParseWord(word); err == nil {
			t.Errorf("%q was taken", word)
		}
	}
}
