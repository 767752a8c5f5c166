package bolt

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
)

// A partition that is written has two copies of what each batch changes (hosts, the ledger): bbolt
// writes pages anew and uses the old ones with the batch after. Once it is sealed they are room
// for nothing.

// dig gives the pages of a sealed partition that are not used back to the filesystem. The file's size stays, and it can be
// written again. A failure leaves the file as it was, which is as good. appendMu is held.
func (s *Store) dig(p *partition) {
	err := digFile(p.path)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		s.log.Warn("a sealed partition takes more room than it needs", "partition", p.path, "error", err)
	}
}

func digFile(path string) (err error) {
	f, err := pages.Open(path)
	if err != nil {
		return err
	}
	list, err := f.Unused()
	if err = errors.Join(err, f.Close()); err != nil || len(list) == 0 {
		return err
	}
	out, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for _, r := range list {
		if err := unix.Fallocate(int(out.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Off, r.Size); err != nil {
			return err
		}
	}
	return nil
}
