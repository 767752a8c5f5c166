package seglog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestInspect: what Inspect says is what Open then finds, and it changes nothing.
func TestInspect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(b []byte) []byte
		damaged int
		torn    bool
	}{
		"clean":        {change: func(b []byte) []byte { return b }},
		"torn":         {change: func(b []byte) []byte { return append(b, "half an entry"...) }, torn: true},
		"rotten":       {change: func(b []byte) []byte { b[dataOffset+200] ^= 4; return b }, damaged: 1},
		"second head":  {change: func(b []byte) []byte { b[headerCopyAt+20] ^= 4; return b }, damaged: 1},
		"both heads":   {change: func(b []byte) []byte { b[20] ^= 4; b[headerCopyAt+20] ^= 4; return b }, damaged: 1},
		"rotten, torn": {change: func(b []byte) []byte { b[dataOffset+200] ^= 4; return append(b, "half"...) }, damaged: 1, torn: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := osOptions(t.TempDir())
			o.Preallocate = PreallocateNone
			l, _ := mustOpen(t, o)
			for range 20 {
				if _, err := l.Append(bytes.Repeat([]byte("x"), 50)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			m, _ := filepath.Glob(filepath.Join(o.Dir, "*.seg"))
			rewrite(t, m[0], c.change)
			before, err := os.ReadFile(m[0])
			if err != nil {
				t.Fatal(err)
			}
			rec, err := Inspect(o, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(rec.Damaged) != c.damaged || (rec.Torn != nil) != c.torn {
				t.Errorf("%v", rec)
			}
			if after, err := os.ReadFile(m[0]); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed: %v", err)
			}
			l, opened, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			if len(opened.Damaged) != len(rec.Damaged) || (opened.Torn == nil) != (rec.Torn == nil) {
				t.Errorf("Open found %v, Inspect %v", opened, rec)
			}
			var aside []string
			if _, err := Inspect(o, func(name string, _ int64) { aside = append(aside, name) }, nil); err != nil {
				t.Fatal(err)
			}
			for _, name := range aside {
				if !strings.Contains(name, ".seg.corrupt") {
					t.Errorf("set aside: %s", name)
				}
			}
			if c.damaged > 0 && name != "second head" && len(aside) != 1 {
				t.Errorf("set aside: %q", aside)
			}
		})
	}
}

// TestInspectBesideWriter: a log that is written and trimmed meanwhile is whole.
func TestInspectBesideWriter(t *testing.T) {
	t.Parallel()
	o := osOptions(t.TempDir())
	o.SegmentBytes = 256 << 10
	l, _ := mustOpen(t, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			last, err := l.Append(bytes.Repeat([]byte{byte(i)}, 20+i%3000))
			if err == nil && i%3 == 0 {
				err = l.Sync()
			}
			if err == nil && last > 500 {
				err = l.TruncateFront(last - 400)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 150 {
		rec, err := Inspect(o, nil, nil)
		if err != nil {
			t.Error(err)
			break
		}
		if len(rec.Damaged) > 0 || len(rec.Gaps) > 0 {
			t.Errorf("damage in a log that has none: %v", rec)
			break
		}
	}
	close(stop)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
