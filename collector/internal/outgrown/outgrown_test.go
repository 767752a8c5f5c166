package outgrown

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
)

// A journal that outgrows what it has to hold is said, not over and over, with what the
// store says; and so is that it has its size again.
func TestSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log need.Buffer
		var size atomic.Int64
		size.Store(40)
		w := &Watcher{
			Journal: func() journal.Stats { return journal.Stats{DiskBytes: size.Load()} },
			Head:    func() head.Stats { return head.Stats{StoreError: errors.New("stuck")} },
			Needs:   func() int64 { return 10 }, Now: time.Now,
			Log: hclog.New(&hclog.LoggerOptions{Output: &log}),
		}
		go w.Run(t.Context())
		logged := func(after time.Duration, warnings, infos int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			text := log.String()
			if n, m := strings.Count(text, "the journal has outgrown"), strings.Count(text, "its size again"); n != warnings || m != infos {
				t.Errorf("said %d and %d times, want %d and %d:\n%s", n, m, warnings, infos, text)
			}
		}
		logged(time.Hour, 0, 0)
		if size.Store(41); w.Limit() != 40 || w.Excess() != 1 {
			t.Errorf("limit %d, excess %d", w.Limit(), w.Excess())
		}
		logged(every, 1, 0)
		logged(warnEvery-every, 1, 0)
		logged(every, 2, 0)
		if !strings.Contains(log.String(), "store_error=stuck") {
			t.Errorf("it does not say why:\n%s", log.String())
		}
		size.Store(40)
		if w.Excess() != 0 {
			t.Errorf("excess %d at the limit", w.Excess())
		}
		logged(time.Hour, 2, 1)
	})
}
