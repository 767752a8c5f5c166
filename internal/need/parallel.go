package need

import (
	"flag"
	"strconv"
)

// Parallel sets how many of a package's parallel tests may run at once, whatever the
// number of processors. It serves tests that wait more than they compute. TestMain calls
// it before it runs the tests; -parallel on the command line overrides it.
func Parallel(tests int) {
	if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
		panic(err) // not in a test binary
	}
}
