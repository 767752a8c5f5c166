package bolt

import (
	"errors"
	"os"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
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

// settle makes a transaction that changes nothing: the state before the one that counts, whose pages must stay, is the same one then.
func settle(p *partition) error { return p.update(func(*bbolt.Tx) error { return nil }) }

// unfollow takes what is followed of hosts, which counts in the partition of the last batch, off the one that was sealed before
// p. That of p stays, for a start without the last partition. A failure is as good. appendMu is held.
func (s *Store) unfollow(p *partition) {
	var before *partition
	s.mu.Lock()
	for _, x := range s.parts {
		if x != s.cur && x != p && x.keepsLedger() && x.place <= p.place && (before == nil || x.place > before.place) {
			before = x
		}
	}
	s.mu.Unlock()
	if before == nil {
		return
	}
	var keys []store.KV
	err := before.view(func(tx *bbolt.Tx) error {
		keys = trackers(tx)
		return nil
	})
	if err != nil || len(keys) == 0 {
		return
	}
	if err = before.reopen(true); err == nil {
		err = before.update(func(tx *bbolt.Tx) error {
			bkt := tx.Bucket(layout.BucketLedger)
			for _, kv := range keys {
				if err := bkt.Delete(kv.Key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = settle(before)
	}
	if err = errors.Join(err, before.reopen(false)); err != nil {
		s.log.Warn("a sealed partition takes more room than it needs", "partition", before.path, "error", err)
		return
	}
	s.dig(before)
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
