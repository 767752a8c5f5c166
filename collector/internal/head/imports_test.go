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
			switch r.h.ImportName(node) {
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
}
