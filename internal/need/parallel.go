package need

import (
	"flag"
	"strconv"
)

// Parallel lets so many of a package's parallel tests run at once, however few
// processors there are: for tests that wait more than they compute. TestMain calls it
// before it runs the tests; -parallel on the command line overrides it.
func Parallel(tests int) {
	if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
		panic(err) // not in a test binary
	}
}
