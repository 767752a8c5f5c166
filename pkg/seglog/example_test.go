package seglog_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Entries are durable once Sync has returned, and are read in order.
func Example() {
	log, _, err := seglog.Open(seglog.Options{FS: faultfs.New(1), Dir: "/log", Kind: "example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	first, err := log.Append([]byte("one"), []byte("two"))
	if err := errors.Join(err, log.Sync()); err != nil {
		fmt.Println(err)
		return
	}
	r, err := log.Reader(first)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for {
		index, entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		fmt.Printf("%d %s %v\n", index, entry, err)
	}
	fmt.Println("durable up to", log.Synced())
	// Output:
	// 1 one <nil>
	// 2 two <nil>
	// durable up to 2
}
