package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The file has the content and mode asked for, whatever it had, and nothing stays
// beside it, also when it can't be put in place.
func TestReplace(t *testing.T) {
	for name, replace := range map[string]func(string, []byte, fs.FileMode, bool) error{"Replace": Replace, "ReplaceShared": ReplaceShared} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, durable := range []bool{false, true} {
			for _, text := range []string{"longer", "short"} {
				if err := replace(path, []byte(text), 0o640, durable); err != nil {
					t.Fatal(name, err)
				}
				b, err := os.ReadFile(path)
				info, serr := os.Stat(path)
				if err != nil || serr != nil || string(b) != text || info.Mode() != 0o640 {
					t.Errorf("%s: %q, %v, %v, %v", name, b, info, err, serr)
				}
			}
		}
		if err := os.MkdirAll(filepath.Join(dir, "folder", "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := replace(filepath.Join(dir, "folder"), nil, 0o600, true); err == nil {
			t.Errorf("%s: a folder was replaced", name)
		}
		want := []string{"folder", "x"}
		if name == "ReplaceShared" {
			want = append(want, "x.tmp") // it is none of its own
		}
		names, err := OS.ReadDir(dir)
		if d := cmp.Diff(want, names); d != "" || err != nil {
			t.Error(name, d, err)
		}
	}
}

// A file that is there is never overwritten, a new one is whole, and what fails leaves none.
func TestCreateOn(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	path := filepath.Join(t.TempDir(), "x")
	if err := CreateOn(OS, path, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := CreateOn(OS, path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v", err)
	}
	info, err := os.Stat(path)
	if b, rerr := os.ReadFile(path); rerr != nil || err != nil || string(b) != "one" || info.Mode() != 0o640 {
		t.Errorf("%q, %v, %v, %v", b, info, err, rerr)
	}
	if err := os.Mkdir(path+"2.tmp", 0o700); err != nil { // where the new file would be written
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path+"2.tmp", "in"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateOn(OS, path+"2", []byte("two"), 0o600); err == nil {
		t.Error("it can't be written, and was")
	}
	if _, err := os.Stat(path + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty file stays: %v", err)
	}
}
