package need

import (
	"os"
	"path/filepath"
	"testing"
)

// Source returns the path of a file or folder of this module, whose path below the
// module's root is given. Tests run in the folder of their package, which lies below the
// root.
func Source(t testing.TB, path string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, path)
		}
		if at == filepath.Dir(at) {
			t.Fatalf("no go.mod in %s or above it", dir)
		}
	}
}
