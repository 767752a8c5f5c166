package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestAlertsAreTold has a loss told to a webhook, and tests it, while it answers and while it does not.
func TestAlertsAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	answer := http.StatusOK
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && answer == http.StatusOK {
			got = append(got, string(b))
		}
		w.WriteHeader(answer)
	}))
	defer hook.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"ops.conf": "type = webhook\nurl = " + hook.URL + "\nsecret_file = " + filepath.Join(dir, "secret") + "\n", "secret": strings.Repeat("s3cret", 8) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sinks := sink.Load(dir, sink.Names{})
	if sinks.Problem != nil {
		t.Fatal(sinks.Problem)
	}
	w := watch(t, func(c *Config) { c.Sinks = sinks })
	h := w.host("web1")
	w.minutes(3)
	h.said, h.lost = []string{"type=DAEMON_ERR msg=audit(NOW:5): op=lost-records cause=kernel records=7 first=NOW last=NOW res=failed"}, 7
	w.minutes(3)
	has := func(what ...string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			all := strings.Join(got, "\n")
			for _, text := range what {
				if !strings.Contains(all, text) {
					return false
				}
			}
			return true
		}
	}
	need.Wait(t, "the webhook is told", has(`"condition":"loss"`, `"state":"firing"`, `"host":"web1"`))
	tests, err := w.testAlert(t.Context(), "")
	if err != nil || len(tests) != 1 || tests[0].GetSink() != "ops" || tests[0].GetError() != "" || !has(`"test":true`)() {
		t.Errorf("a test: %v, %v", tests, err)
	}
	mu.Lock()
	answer = http.StatusServiceUnavailable
	mu.Unlock()
	if tests, err = w.testAlert(t.Context(), "ops"); err != nil || len(tests) != 1 || !strings.Contains(tests[0].GetError(), "503") {
		t.Errorf("a test of one that answers 503: %v, %v", tests, err)
	}
	if tests, err = w.testAlert(t.Context(), "op"); err != nil || len(tests) != 1 || !strings.Contains(tests[0].GetError(), "ops") {
		t.Errorf("a test of one that is not there: %v, %v", tests, err)
	}
	if l := w.listAlerts(); len(l.GetSinks()) != 1 || l.GetSinks()[0].GetName() != "ops" || l.GetSinks()[0].GetDelivered() == 0 {
		t.Errorf("sinks: %v", l.GetSinks())
	}
	w.minutes(70)
	if n := w.firing(); len(n) != 0 {
		t.Errorf("%d still fire", len(n))
	}
	w.minutes(3)
	mu.Lock()
	answer = http.StatusOK
	mu.Unlock()
}
