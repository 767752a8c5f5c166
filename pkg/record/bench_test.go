package record

import (
	"bytes"
	"testing"
)

// kernelLines are the real SYSCALL and PATH records.
func kernelLines(b *testing.B, file string) ([][]byte, int64) {
	var out [][]byte
	n := 0
	for _, line := range lines(b, file) {
		if bytes.Contains(line, []byte("type=SYSCALL ")) || bytes.Contains(line, []byte("type=PATH ")) {
			out = append(out, line)
			n += len(line) + 1
		}
	}
	return out, int64(n)
}

func report(b *testing.B, records int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
}

func benchHeader(b *testing.B, file string) {
	all, size := kernelLines(b, file)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, line := range all {
			var r Record
			_ = r.Parse(line)
		}
	}
	report(b, len(all))
}

func benchFields(b *testing.B, file string) {
	all, size := kernelLines(b, file)
	b.SetBytes(size)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, line := range all {
			var r Record
			_ = r.Parse(line)
			for f := r.Fields(); ; n++ {
				if _, ok := f.Next(); !ok {
					break
				}
			}
			for f := r.EnrichedFields(); ; n++ {
				if _, ok := f.Next(); !ok {
					break
				}
			}
		}
	}
	report(b, len(all))
	b.ReportMetric(float64(n)/float64(b.N*len(all)), "fields/record")
}

func BenchmarkHeaderRaw(b *testing.B)      { benchHeader(b, "kernel-raw.log") }
func BenchmarkHeaderEnriched(b *testing.B) { benchHeader(b, "kernel-enriched.log") }
func BenchmarkFieldsRaw(b *testing.B)      { benchFields(b, "kernel-raw.log") }
func BenchmarkFieldsEnriched(b *testing.B) { benchFields(b, "kernel-enriched.log") }

func BenchmarkGetKey(b *testing.B) {
	all, size := kernelLines(b, "kernel-raw.log")
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, line := range all {
			var r Record
			_ = r.Parse(line)
			_, _ = r.Get("key")
		}
	}
	report(b, len(all))
}
