package need

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Tests that need the folder at the same time: each has it until it ends, and the last one removes it. One that was
// there before stays.
func TestPlaceFor(t *testing.T) {
	Root(t)
	dir := filepath.Join(t.TempDir(), "accounts")
	module := "place-" + filepath.Base(t.TempDir()) + "-" + filepath.Base(os.Args[0])
	together := func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					t.Run("user", func(t *testing.T) {
						placeFor(t, module, dir)
						if _, err := os.Stat(dir); err != nil {
							t.Error(err)
						}
					})
				}
			})
		}
		wg.Wait()
	}
	together(t)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("what tests made is still there: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	together(t)
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("what was there before is gone: %v", err)
	}
	if locks, err := filepath.Glob("/run/auditfleet-test-" + module + "*"); err != nil || len(locks) > 0 {
		t.Errorf("locks are left: %v %v", locks, err)
	}
}
