package seglog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

const benchEntry = 200

func benchOptions(b *testing.B, pre Preallocate) Options {
	return Options{FS: fsys.OS, Dir: b.TempDir(), Kind: "bench", Preallocate: pre}
}

func batchOf(n int) [][]byte {
	batch := make([][]byte, n)
	for i := range batch {
		batch[i] = stamped(uint64(i), benchEntry-8)
	}
	return batch
}

// AppendSync is the group commit: one batch, one sync. raw is the same bytes by
// a plain write and fdatasync to a growing file.
func BenchmarkAppendSync(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		for _, mode := range []string{"raw", "log", "log-noprealloc"} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode, n), func(b *testing.B) {
				var commit func()
				batch := batchOf(n)
				if mode == "raw" {
					f, err := fsys.OS.OpenFile(filepath.Join(b.TempDir(), "raw"), os.O_CREATE|os.O_RDWR, 0o600)
					if err != nil {
						b.Fatal(err)
					}
					defer f.Close()
					buf, off := make([]byte, n*(benchEntry+frameHead)), int64(0)
					commit = func() {
						if _, err := f.WriteAt(buf, off); err != nil {
							b.Fatal(err)
						}
						if err := f.Datasync(); err != nil {
							b.Fatal(err)
						}
						off += int64(len(buf))
					}
				} else {
					pre := PreallocateSpace
					if mode != "log" {
						pre = PreallocateNone
					}
					l, _, err := Open(benchOptions(b, pre))
					if err != nil {
						b.Fatal(err)
					}
					defer l.Close()
					commit = func() {
						if _, err := l.Append(batch...); err != nil {
							b.Fatal(err)
						}
						if err := l.Sync(); err != nil {
							b.Fatal(err)
						}
						if err := l.TruncateFront(l.Last()); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.SetBytes(int64(n * benchEntry))
				for b.Loop() {
					commit()
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

// Append alone: what the log costs beside the write itself (syncs fall in at
// MaxUnsynced).
func BenchmarkAppend(b *testing.B) {
	l, _, err := Open(benchOptions(b, PreallocateSpace))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	batch := batchOf(1024)
	b.SetBytes(1024 * benchEntry)
	for b.Loop() {
		if _, err := l.Append(batch...); err != nil {
			b.Fatal(err)
		}
		if err := l.TruncateFront(l.Last()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1024*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkReadAndOpen(b *testing.B) {
	o := benchOptions(b, PreallocateSpace)
	l, _, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	batch := batchOf(1024)
	for range 1000 { // 216 MB
		if _, err := l.Append(batch...); err != nil {
			b.Fatal(err)
		}
	}
	size := l.Size()
	b.Run("read", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			r, err := l.Reader(0)
			if err != nil {
				b.Fatal(err)
			}
			for {
				if _, _, err := r.Next(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
			r.Close()
		}
		b.ReportMetric(1024*1000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			l, _, err := Open(o)
			if err != nil {
				b.Fatal(err)
			}
			l.Close()
		}
	})
}
