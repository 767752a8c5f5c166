package upkeep

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
)

// A manifest of another store is the one thing that is wrong: neither the partitions nor
// the journal are told to be missing or foreign.
func TestVerifyManifestOfAnother(t *testing.T) {
	t.Parallel()
	dir, other := made(t), filepath.Join(t.TempDir(), "other")
	if err := startRig(t, other, 60<<10).close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(other, manifest.Name))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, manifest.Name), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	rep := mustVerify(t, dir)
	if len(rep.Damage) != 1 || !strings.Contains(rep.Damage[0], "MANIFEST: it is of another store") || !strings.Contains(rep.Damage[0], "put this store's own back") {
		t.Errorf("damage: %q", rep.Damage)
	}
}

// What can't be the manifest is refused with what to do.
func TestVerifyManifestNoFile(t *testing.T) {
	t.Parallel()
	dir := made(t)
	path := filepath.Join(dir, manifest.Name)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), VerifyOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), path+": is a directory: put the store's own file there, or move this away") {
		t.Errorf("a directory: %v", err)
	}
}
