package bolt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A store in a folder that others may write is refused, and what they planted there
// under the names of its files is left alone.
func TestSharedFolder(t *testing.T) {
	t.Parallel()
	need.Root(t)
	const nobody = 65534
	for _, c := range []struct {
		mode         os.FileMode
		owner, group int
		want         string
	}{{0o777 | os.ModeSticky, 0, -1, "others may write in the folder"}, {0o770, 0, nobody, "others may write in the folder"}, {0o700, nobody, -1, "belongs to uid 65534"}} {
		dir := filepath.Join(t.TempDir(), "store")
		victim := filepath.Join(filepath.Dir(dir), "victim")
		for _, err := range []error{os.Mkdir(dir, 0o700), os.Chmod(dir, c.mode), os.Chown(dir, c.owner, c.group), os.WriteFile(victim, []byte("root's"), 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range []string{"VERSION.tmp", "lock", "state.tmp", "senders.db"} {
			link := os.Symlink
			if i == 1 {
				link = os.Link
			}
			if err := link(victim, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(Options{Dir: dir})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "choose another one") {
			t.Errorf("%v of %d: %v", c.mode, c.owner, err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "root's" {
			t.Errorf("%v of %d: root's file has %q (%v)", c.mode, c.owner, b, err)
		}
	}
}
