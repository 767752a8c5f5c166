package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// tested delivers a notice at once, to a sink whose file has text, and returns what came of it.
func tested(t *testing.T, text string) error {
	t.Helper()
	s := open(t, load(t, t.TempDir(), map[string]string{"x": text}), t.TempDir())
	return s.Test(context.Background(), "x", one(notice("a", Firing, 0)))
}

// What each answer means: taken, refused for good, or sent again; and none makes a sink
// wait for ever, follow it elsewhere, or read without end.
func TestAnswers(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string // "" taken, "refused", "again"
	}{
		"200":       {func(w http.ResponseWriter) { w.WriteHeader(200) }, ""},
		"202":       {func(w http.ResponseWriter) { w.WriteHeader(202) }, ""},
		"301":       {func(w http.ResponseWriter) { w.Header().Set("Location", elsewhere.URL); w.WriteHeader(301) }, "again"},
		"307":       {func(w http.ResponseWriter) { w.Header().Set("Location", elsewhere.URL); w.WriteHeader(307) }, "again"},
		"400":       {func(w http.ResponseWriter) { w.WriteHeader(400) }, "refused"},
		"401":       {func(w http.ResponseWriter) { w.WriteHeader(401) }, "again"},
		"404":       {func(w http.ResponseWriter) { w.WriteHeader(404) }, "again"},
		"413":       {func(w http.ResponseWriter) { w.WriteHeader(413) }, "refused"},
		"429":       {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "999999999999"); w.WriteHeader(429) }, "again"},
		"500":       {func(w http.ResponseWriter) { w.WriteHeader(500) }, "again"},
		"abort":     {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "again"},
		"endless":   {func(w http.ResponseWriter) { w.WriteHeader(500); spew(w) }, "again"},
		"said back": {func(w http.ResponseWriter) { w.WriteHeader(400); fmt.Fprint(w, "no \x1b[31m"+"hunter2 here\n") }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }))
			defer r.Close()
			text := webhookConf(t, r.URL) + "token_file = " + write(t, filepath.Join(t.TempDir(), "token"), "hunter2\n", 0o600) + "\n"
			err := tested(t, text)
			var final refusal
			got := "again"
			switch {
			case err == nil:
				got = ""
			case errors.As(err, &final):
				got = "refused"
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\x1b") || strings.Contains(err.Error(), "/hook")) {
				t.Errorf("the error says too much: %q", err)
			}
			var asked pause
			if name == "429" && (!errors.As(err, &asked) || asked.after != longestPause) {
				t.Errorf("Retry-After: %v", err)
			}
		})
	}
}

func spew(w http.ResponseWriter) {
	for {
		if _, err := w.Write(make([]byte, 32<<10)); err != nil {
			return
		}
	}
}

// Peers that hang, talk nonsense or can't be reached cost the timeout at most.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	serve := func(t *testing.T, f func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				f(c)
			}
		}()
		t.Cleanup(func() { ln.Close(); <-done })
		return "http://" + ln.Addr().String()
	}
	var held []net.Conn
	t.Cleanup(func() {
		for _, c := range held {
			c.Close()
		}
	})
	tlsPeer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsPeer.Close)
	for name, url := range map[string]string{
		"hangs":       serve(t, func(c net.Conn) { held = append(held, c) }),
		"nonsense":    serve(t, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n"); c.Close() }),
		"closes":      serve(t, func(c net.Conn) { c.Close() }),
		"no DNS":      "http://sink.invalid",
		"nobody":      "http://127.0.0.1:1",
		"certificate": tlsPeer.URL,
	} {
		t.Run(name, func(t *testing.T) {
			err := tested(t, webhookConf(t, url))
			var final refusal
			if err == nil || errors.As(err, &final) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A secret that others may read is refused; one that is gone, too; both hold up what waits
// until they are right.
func TestSecretFiles(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	text := webhookConf(t, r.URL)
	_, path, _ := strings.Cut(strings.TrimSpace(text), "secret_file = ")
	s := open(t, load(t, t.TempDir(), map[string]string{"x": text}), t.TempDir())
	test := func(want string) {
		t.Helper()
		err := s.Test(context.Background(), "x", one(notice("t", Firing, 0)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), testSecret[6:]) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	write(t, path, testSecret, 0o644)
	test("chmod 0600")
	write(t, path, "short", 0o600)
	test("want 24 at least")
	write(t, path, "whsec_???", 0o600)
	test("no base64")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	test("no such file")
	s.Deliver(one(notice("a", Firing, 0)))
	need.Wait(t, "a failure", func() bool { return s.Status()[0].Failed > 0 })
	write(t, path, testSecret, 0o600)
	r.wait(t, "firing a")
}

// A message that is refused for good is taken apart: what is refused by itself is dropped and
// counted, and the rest arrives.
func TestRefusedOneOfMany(t *testing.T) {
	t.Parallel()
	r, told := newReceiver(t), make(chan string, 10)
	r.answer = func(w http.ResponseWriter, n int) bool {
		if n <= 2 { // the message of three, and the first of them
			w.WriteHeader(422)
		}
		return n <= 2
	}
	s := Open(load(t, t.TempDir(), map[string]string{"x": webhookConf(t, r.URL)}), Options{Dir: t.TempDir(), Dropped: func(sink, reason string, n int) {
		told <- fmt.Sprint(sink, " ", reason, " ", n)
	}})
	defer s.Close()
	s.Deliver(Group{Notices: []Notice{notice("a", Firing, 0), notice("b", Firing, 0), notice("c", Firing, 0)}})
	r.wait(t, "firing b, firing c")
	if got := <-told; got != "x refused 1" {
		t.Error(got)
	}
	if d := s.Status()[0].Dropped[DroppedRefused]; d != 1 {
		t.Errorf("%d dropped", d)
	}
}

// A sink that hangs holds up no other, nor who delivers.
func TestOneHangs(t *testing.T) {
	t.Parallel()
	r, stuck := newReceiver(t), newReceiver(t)
	release := make(chan struct{})
	stuck.answer = func(http.ResponseWriter, int) bool { <-release; return true }
	defer close(release)
	s := open(t, load(t, t.TempDir(), map[string]string{"a": webhookConf(t, stuck.URL), "b": webhookConf(t, r.URL)}), t.TempDir())
	for i := range 5 {
		s.Deliver(one(notice(fmt.Sprint("h", i), Firing, time.Second)))
	}
	need.Wait(t, "the other sink has all", func() bool { return strings.Count(r.has(), "firing") == 5 })
}
