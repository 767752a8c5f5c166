package head

import (
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
)

// An event without an end that its host's silence ends, once the table that its record came for is cut, is stored: beside
// imports, of which each goes on from what was processed, by a stop in good order, and by its age.
func TestSilentAfterCut(t *testing.T) {
	t.Parallel()
	change := line("web1", 1, 1, "CONFIG_CHANGE", `auid=0 op=remove_rule key="home" list=4 res=1`)
	begin := func(t *testing.T, dir string, maxAge time.Duration, cut func(*rig)) (r *rig, opts func(*journal.Options, *Options)) {
		t.Helper()
		opts = func(_ *journal.Options, o *Options) {
			o.EventTimeout, o.MaxAge = 300*time.Millisecond, maxAge
		}
		r = mustRig(t, dir, opts)
		r.put(t, plain(1, change))
		rawFound(t, r.h) // by then it is fed
		cut(r)
		need.Wait(t, "the event is ended", r.nothingOpen)
		return r, opts
	}
	imports := func(r *rig) {
		t.Helper()
		if _, err := r.h.Import(t.Context(), Imported{Import: store.Import{Name: "old", Note: []byte("note")}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("import", func(t *testing.T) {
		dir := t.TempDir()
		r, opts := begin(t, dir, time.Hour, imports)
		imports(r)
		if got := rawFound(t, openCopy(t, r, dir)); len(got) != 1 {
			t.Errorf("as a kill leaves it there are %q", got)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		if got := rawFound(t, mustRig(t, dir, opts).h); len(got) != 1 {
			t.Errorf("after a stop and a start there are %q", got)
		}
	})
	t.Run("age", func(t *testing.T) {
		r, _ := begin(t, t.TempDir(), time.Second, func(r *rig) { r.settle(t) })
		need.Wait(t, "the table is cut at its age", func() bool { return r.h.Stats().TableEvents == 0 })
	})
}
