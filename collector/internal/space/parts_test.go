package space

import (
	"errors"
	"testing"
)

func TestParts(t *testing.T) {
	for name, c := range map[string]struct {
		total, reserve       int64 // MiB
		segment, table, open int64 // bytes
	}{
		"a large disk":    {1 << 20, 128, 64 << 20, 128 << 20 / 3, 64 << 20},
		"a small one":     {16, 2, 1 << 20, 1 << 20, 1 << 20},
		"in between":      {512, 30, 15 << 20, 10 << 20, 32 << 20},
		"nothing is kept": {1 << 20, -1, 64 << 20, 48 << 20, 64 << 20},
		"much is kept":    {1 << 20, 1 << 10, 64 << 20, 48 << 20, 64 << 20},
		"it is not known": {0, 128, 64 << 20, 48 << 20, 64 << 20},
	} {
		free := func() (free, total uint64, err error) {
			if c.total == 0 {
				return 0, 0, errors.New("unknown")
			}
			return uint64(c.total) << 20, uint64(c.total) << 20, nil
		}
		d := newDisk(t, Limits{})
		w := New(Config{Space: free, Limits: Limits{Reserve: c.reserve << 20}, Log: d.w.cfg.Log})
		if s, tb, o := w.SegmentBytes(), w.TableBytes(), w.OpenBytes(64<<20); s != c.segment || tb != c.table || o != c.open {
			t.Errorf("%s: segment %d, table %d, open events %d; want %d, %d, %d", name, s, tb, o, c.segment, c.table, c.open)
		}
	}
}
