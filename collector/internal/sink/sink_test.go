package sink

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(-1) // a collection would close connections that nobody does
	debug.SetMemoryLimit(1 << 30)
	goleak.VerifyTestMain(m)
}

const testSecret = "whsec_c2l4dGVlbiBieXRlcyBhbmQgYSBmZXcgbW9yZQ=="

// write writes a file and returns its path.
func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := need.Program(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads sinks from files whose texts are given by name.
func load(t testing.TB, dir string, files map[string]string) Config {
	t.Helper()
	for name, text := range files {
		write(t, filepath.Join(dir, name+".conf"), text, 0o644)
	}
	return Load(dir, names)
}

// open opens sinks with queues in dir, and closes them at the end.
func open(t testing.TB, cfg Config, dir string) *Sinks {
	t.Helper()
	if cfg.Problem != nil {
		t.Fatal(cfg.Problem)
	}
	s := Open(cfg, Options{Dir: dir, Node: "collector1"})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var names = Names{Conditions: []string{"loss", "host-silent", "serial-gaps"}, Labels: []string{"host", "cause"}}

var began = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)

// notice is one about a host.
func notice(host, state string, at time.Duration) Notice {
	n := Notice{ID: "loss/" + host, Condition: "loss", Severity: Critical, State: state,
		Labels: map[string]string{"host": host}, Summary: host + " lost 3 records: look at its disk", Value: "3 records",
		Started: began, At: began.Add(at)}
	if state == Resolved {
		n.Ended = n.At
	}
	return n
}

func one(n Notice) Group {
	return Group{Key: n.Condition + "/" + n.Severity + "/" + n.State, Notices: []Notice{n}}
}

// receiver is a webhook's other end. It checks signatures in its own way, and answers what
// it is told to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string // state of host, in order; each key once
	keys   map[string]bool
	ids    map[string]int
	answer func(w http.ResponseWriter, n int) bool // true: it has answered
	n      int
	bad    []string
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{keys: map[string]bool{}, ids: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	r.n++
	answer, n := r.answer, r.n
	r.mu.Unlock()
	if answer != nil && answer(w, n) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = append(r.bad, err.Error())
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
	if err != nil {
		r.bad = append(r.bad, err.Error())
	}
	mac := hmac.New(sha256.New, secret)
	io.WriteString(mac, req.Header.Get("webhook-id")+"."+req.Header.Get("webhook-timestamp")+"."+string(body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); req.Header.Get("webhook-signature") != want {
		r.bad = append(r.bad, "signature "+req.Header.Get("webhook-signature"))
	}
	var m struct {
		Version int
		ID      string
		Alerts  []struct {
			Key, State string
			Labels     map[string]string
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Version != 1 || m.ID != req.Header.Get("webhook-id") {
		r.bad = append(r.bad, string(body))
	}
	r.ids[m.ID]++
	for _, a := range m.Alerts {
		if !r.keys[a.Key] {
			r.keys[a.Key] = true
			r.got = append(r.got, a.State+" "+a.Labels["host"])
		}
	}
}

func (r *receiver) has() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(append(r.got, r.bad...), ", ")
}

func (r *receiver) wait(t *testing.T, want string) {
	t.Helper()
	need.Wait(t, "webhook has "+want, func() bool { return r.has() == want })
}

// webhookConf is the text of a webhook's file.
func webhookConf(t testing.TB, url string) string {
	return "type = webhook\nurl = " + url + "/hook\ntimeout = 1\nsecret_file = " + write(t, filepath.Join(t.TempDir(), "secret"), testSecret+"\n", 0o600) + "\n"
}

// What is delivered arrives signed, in order; what could not be delivered waits over a
// restart, and of an alert that is over meanwhile that it is over.
func TestWebhook(t *testing.T) {
	t.Parallel()
	r, dir := newReceiver(t), t.TempDir()
	cfg := load(t, t.TempDir(), map[string]string{"hook": webhookConf(t, r.URL)})
	s := Open(cfg, Options{Dir: dir, Node: "collector1"})
	s.Deliver(one(notice("a", Firing, 0)))
	r.wait(t, "firing a")
	s.Deliver(one(notice("a", Resolved, time.Minute)))
	r.wait(t, "firing a, resolved a")
	r.mu.Lock()
	r.answer = func(w http.ResponseWriter, _ int) bool { w.WriteHeader(503); return true }
	r.mu.Unlock()
	for _, n := range []Notice{notice("b", Firing, 0), notice("c", Firing, 0), notice("b", Firing, time.Minute), notice("b", Resolved, 2*time.Minute)} {
		s.Deliver(one(n))
	}
	need.Wait(t, "a failure", func() bool { return s.Status()[0].Failed > 0 })
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	s = open(t, cfg, dir)
	need.Wait(t, "all delivered", func() bool { return s.Status()[0].Queued == 0 })
	if got := r.has(); !strings.Contains(got, "firing c") || !strings.Contains(got, "resolved b") {
		t.Errorf("%s", got)
	}
}
