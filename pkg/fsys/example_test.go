package fsys_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// A reader sees the old file or the new one, never a part of either.
func ExampleReplace() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "state")
	for _, text := range []string{"first\n", "second\n"} {
		if err := fsys.Replace(path, []byte(text), 0o600, true); err != nil {
			fmt.Println(err)
			return
		}
	}
	b, err := fsys.ReadRegular(path, 100)
	fmt.Printf("%s%v\n", b, err)
	// Output:
	// second
	// <nil>
}
