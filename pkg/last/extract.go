package last

import (
	"bufio"
	"errors"
	"fmt"
	"os"
)

// extractFile is what --extract writes, in the working directory.
const extractFile = "aulast.log"

// extract is the file of --extract. It gets its name when it is whole: whoever looks at logs may
// stand in a folder where others lay links and pipes.
type extract struct {
	*bufio.Writer
	f *os.File
}

func newExtract() (*extract, error) {
	f, err := os.CreateTemp(".", ".aulast-*.log") // for its owner only
	if err != nil {
		return nil, fmt.Errorf("--extract: %w", err)
	}
	return &extract{bufio.NewWriter(f), f}, nil
}

// close gives the file its name. Where it can't, there is no file.
func (e *extract) close() error {
	err := errors.Join(e.Flush(), e.f.Close())
	if err == nil {
		err = os.Rename(e.f.Name(), extractFile)
	}
	if err != nil {
		return fmt.Errorf("--extract: %w", errors.Join(err, os.Remove(e.f.Name())))
	}
	return nil
}
