package sink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// mailStages is what a mail server says until it hangs.
var mailStages = map[string]func(c net.Conn, in *bufio.Reader){
	"mail, at once": func(net.Conn, *bufio.Reader) {},
	"mail, behind its greeting": func(c net.Conn, in *bufio.Reader) {
		fmt.Fprint(c, "220 test\r\n")
		_, _ = in.ReadString('\n')
	},
	"mail, at each command": func(c net.Conn, in *bufio.Reader) {
		fmt.Fprint(c, "220 test\r\n")
		_, _ = in.ReadString('\n')
		fmt.Fprint(c, "250 test\r\n")
		_, _ = in.ReadString('\n')
		fmt.Fprint(c, "250 ok\r\n")
		_, _ = in.ReadString('\n')
	},
	"mail, with the text": func(c net.Conn, in *bufio.Reader) {
		fmt.Fprint(c, "220 test\r\n")
		for text := false; ; {
			line, err := in.ReadString('\n')
			switch {
			case err != nil, text && line == ".\r\n":
				return
			case text:
			case strings.HasPrefix(line, "DATA"):
				text = true
				fmt.Fprint(c, "354 go on\r\n")
			default:
				fmt.Fprint(c, "250 ok\r\n")
			}
		}
	},
}

// A sink that hangs is taken away, or stopped, at once, however long its deliveries may take, and
// keeps nobody meanwhile from being told.
func TestTakenAwayWhileItHangs(t *testing.T) {
	t.Parallel()
	hang := func(t *testing.T, talk func(net.Conn, *bufio.Reader)) (addr string, there <-chan struct{}) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		hangs := make(chan struct{})
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			talk(c, in)
			close(hangs)
			for err == nil {
				_, err = in.ReadByte()
			}
			c.Close()
		}()
		return ln.Addr().String(), hangs
	}
	mail := func(addr string) string {
		return strings.Join([]string{"type = mail", "tls = no", "timeout = 300", "from = a@example.net", "to = b@example.net", "server = " + addr, ""}, "\n")
	}
	check := func(t *testing.T, text string, there <-chan struct{}) {
		files := t.TempDir()
		s := open(t, load(t, files, map[string]string{"x": text}), t.TempDir())
		s.Deliver(one(notice("a", Firing, 0)))
		<-there
		if err := os.Remove(filepath.Join(files, "x.conf")); err != nil {
			t.Fatal(err)
		}
		r := newReceiver(t)
		done := make(chan error, 1)
		go func() { done <- s.Reload(load(t, files, map[string]string{"y": webhookConf(t, r.URL)})) }()
		need.Wait(t, "it is taken away", func() bool { return len(done) == 1 })
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Deliver(one(notice("b", Firing, 0)))
		r.wait(t, "firing b")
	}
	for name, talk := range mailStages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, there := hang(t, talk)
			check(t, mail(addr), there)
		})
	}
	t.Run("syslog", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "log")
		local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer local.Close()
		full, err := net.Dial("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		fill(t, full)
		there := make(chan struct{})
		close(there)
		check(t, "type = syslog\ntimeout = 300\nsocket = "+path+"\n", there)
	})
}

// fill writes until there is no room.
func fill(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := c.Write(make([]byte, 100)); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// What answers 200 and is no Alertmanager has taken nothing.
func TestNoAlertmanager(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, text string
		taken     bool
	}{
		"nothing":      {"", "", true},
		"an object":    {"application/json", `{"status":"success"}`, true},
		"an old error": {"application/json", `{"status":"error","error":"bad data"}`, false},
		"a login page": {"text/html; charset=utf-8", "<html>", false},
	} {
		r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.typ)
			fmt.Fprint(w, c.text)
		}))
		if err := tested(t, "type = alertmanager\nurl = "+r.URL+"\n"); (err == nil) != c.taken {
			t.Errorf("%s: %v", name, err)
		}
		r.Close()
	}
}

// A folder that is gone for a moment takes no sink away.
func TestFolderIsGone(t *testing.T) {
	t.Parallel()
	r, files := newReceiver(t), t.TempDir()
	s := open(t, load(t, files, map[string]string{"x": webhookConf(t, r.URL)}), t.TempDir())
	if err := s.Reload(Load(filepath.Join(files, "gone"), names)); err != nil {
		t.Fatal(err)
	}
	if s.Problem() == nil {
		t.Error("no problem")
	}
	s.Deliver(one(notice("a", Firing, 0)))
	r.wait(t, "firing a")
	if err := s.Reload(Load(files, names)); err != nil || s.Problem() != nil {
		t.Error(err, s.Problem())
	}
}

// A mail that was taken is not sent again, whatever the server does then; and recipients whom it
// refuses keep it from nobody, and are said.
func TestMailOnce(t *testing.T) {
	t.Parallel()
	server := newSMTP(t)
	server.cuts.Store(true)
	s := open(t, load(t, t.TempDir(), map[string]string{"x": server.conf(t, "soc@example.net")}), t.TempDir())
	s.Deliver(one(notice("a", Firing, 0)))
	need.Wait(t, "it is delivered", func() bool { return s.Status()[0].Delivered == 1 })
	if st := s.Status()[0]; st.Failed != 0 || !st.LastDropped.IsZero() {
		t.Errorf("%+v", st)
	}
	for _, to := range []string{"soc@example.net,nobody@example.net", "full@example.net,soc@example.net"} {
		s := open(t, load(t, t.TempDir(), map[string]string{"x": server.conf(t, to)}), t.TempDir())
		if err := s.Test(context.Background(), "x", one(notice("a", Firing, 0))); err == nil || strings.Contains(err.Error(), "soc@") || !strings.Contains(err.Error(), "@example.net: ") {
			t.Errorf("%s: %v", to, err)
		}
		s.Deliver(one(notice("b", Firing, 0)))
		need.Wait(t, "it is delivered", func() bool { return s.Status()[0].Delivered == 1 })
		if st := s.Status()[0]; st.Dropped[DroppedRefused] != 1 || st.LastDropped.IsZero() || st.Queued != 0 {
			t.Errorf("%+v", st)
		}
	}
	// Whom nobody knows is a fault of the sink's file: the notice waits until that is repaired.
	s = open(t, load(t, t.TempDir(), map[string]string{"x": server.conf(t, "nobody@example.net")}), t.TempDir())
	s.Deliver(one(notice("c", Firing, 0)))
	need.Wait(t, "it fails", func() bool { return s.Status()[0].Failed > 0 })
	if st := s.Status()[0]; st.Queued != 1 || st.Dropped[DroppedRefused] != 0 {
		t.Errorf("%+v", st)
	}
}

// What a sink refuses for good is noticed, but not when it is about the sink itself: that would go
// on for ever.
func TestRefusedIsNoticed(t *testing.T) {
	t.Parallel()
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer r.Close()
	s := open(t, load(t, t.TempDir(), map[string]string{"x": webhookConf(t, r.URL)}), t.TempDir())
	own := notice("", Firing, 0)
	own.Condition, own.Labels = "collector-error", map[string]string{"kind": "sink:x"}
	s.Deliver(one(own))
	need.Wait(t, "it is dropped", func() bool { return s.Status()[0].Dropped[DroppedRefused] == 1 })
	if st := s.Status()[0]; !st.LastDropped.IsZero() {
		t.Errorf("%+v", st)
	}
	s.Deliver(one(notice("a", Firing, 0)))
	need.Wait(t, "another is", func() bool { return !s.Status()[0].LastDropped.IsZero() })
}

// Once a test is delivered, what waits is, too, and not at the end of a pause of minutes.
func TestRepairedByTest(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !works.Load() {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer r.Close()
	s := open(t, load(t, t.TempDir(), map[string]string{"x": webhookConf(t, r.URL)}), t.TempDir())
	s.Deliver(one(notice("a", Firing, 0)))
	need.Wait(t, "it fails", func() bool { return s.Status()[0].Failed > 0 })
	works.Store(true)
	if err := s.Test(context.Background(), "x", one(notice("b", Firing, 0))); err != nil {
		t.Fatal(err)
	}
	need.Wait(t, "what waited is delivered", func() bool { return s.Status()[0].Queued == 0 })
}

// What is dropped is said, also what is dropped while the sinks end; nothing is said once they have ended.
func TestDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var said atomic.Int64
	s := Open(load(t, t.TempDir(), map[string]string{"x": webhookConf(t, "http://127.0.0.1:1")}), Options{
		Dir: t.TempDir(), Node: "collector1", Dropped: func(_, _ string, n int) { said.Add(int64(n)) },
	})
	w := s.list[0]
	w.dropped(DroppedFull, 1, errors.New("a test"))
	w.dropped(DroppedFull, 10, errors.New("a test"))
	if n := said.Load(); n != 1 {
		t.Errorf("%d said at once, the rest is due in a minute", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := said.Load(); n != 11 {
		t.Errorf("%d said", n)
	}
	was := w.saying
	w.dropped(DroppedFull, 100, errors.New("a test")) // by a queue that is closed behind it
	if n := said.Load(); n != 111 || w.saying != was {
		t.Errorf("%d said, or in a minute, when nobody is there any more", n)
	}
}
