package head

import (
	"fmt"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
)

// What is imported has no more hosts told apart than what is sent, however many names come before the first batch is stored.
func TestImportNames(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.MaxHosts = 4 })
	apart := func() (n int) {
		for i := range 100 {
			node := fmt.Sprint("web", i)
			switch name, _ := r.h.ImportName(node); name {
			case node:
				n++
			case "":
			default:
				t.Errorf("%s has another name", node)
			}
		}
		return n
	}
	if n := apart(); n != 4 {
		t.Errorf("%d hosts are told apart", n)
	}
	if n := apart(); n != 4 {
		t.Errorf("asked again, %d are", n)
	}
	r.h.LeaveImportNames()
	if name, _ := r.h.ImportName("another"); name != "another" {
		t.Error("an import that ended without events keeps its names")
	}
}

// A host has one name, however it is written: none is another host for being imported in other letters.
func TestImportNameInOtherLetters(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	for _, node := range []string{"Web1", "web1", "WEB1.", "Web1"} {
		if name, alike := r.h.ImportName(node); name != "Web1" || len(alike) != 0 {
			t.Errorf("%s is %q beside %q", node, name, alike)
		}
	}
	r.h.LeaveImportNames()
	r.put(t, plain(1, line("web1", 1, 1, "USER_END", "pid=1"), line("WEB1", 1, 1, "USER_END", "pid=1")))
	r.settle(t)
	for node, want := range map[string]string{"web1": "web1", "WEB1": "WEB1", "Web1": "WEB1"} {
		name, alike := r.h.ImportName(node)
		if other := map[string]string{"web1": "WEB1", "WEB1": "web1"}[name]; name != want || len(alike) != 1 || alike[0] != other {
			t.Errorf("%s is %q beside %q, want %q", node, name, alike, want)
		}
	}
}
