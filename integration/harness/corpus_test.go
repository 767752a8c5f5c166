package harness

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func corpus(t testing.TB, log []byte) *Corpus {
	t.Helper()
	c, err := ParseCorpus(log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCorpusTemplatesKeepTheRecording(t *testing.T) {
	for _, log := range [][]byte{RecordedRaw(), RecordedEnriched()} {
		var back []string
		for _, ev := range corpus(t, log).events {
			for _, l := range ev {
				var b strings.Builder
				for i, text := range l.text {
					b.Write(text)
					if i < len(l.put) {
						b.Write(l.put[i].was)
					}
				}
				back = append(back, b.String())
			}
		}
		want := map[string]int{}
		for _, line := range strings.Split(strings.TrimSpace(string(log)), "\n") {
			want[line]++
		}
		got := map[string]int{}
		for _, line := range back {
			got[line]++
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines of the recording (-) and of its templates (+) differ:\n%s", diff)
		}
	}
}

func TestCorpusWritesDistinctRecords(t *testing.T) {
	c := corpus(t, RecordedEnriched())
	m := Make{Seed: 7, Records: 20000, Nodes: []string{"web1", "db1"}, Start: time.Unix(1763600000, 0), Step: time.Millisecond, RareKey: "rare-one", RareEvery: 500}
	var a, b bytes.Buffer
	made, err := c.Write(&a, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(&b, m); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same seed gave other bytes")
	}
	lines := strings.Split(strings.TrimSuffix(a.String(), "\n"), "\n")
	if len(lines) != made.Records || made.Records < m.Records || made.Bytes != int64(a.Len()) {
		t.Errorf("%d lines, %d bytes; told %+v", len(lines), a.Len(), made)
	}
	good := regexp.MustCompile(`^node=(web1|db1) type=[A-Z_]+ msg=audit\([0-9]{10}\.[0-9]{3}:[0-9]+\): [a-z]`)
	seen := map[string]bool{}
	rare := 0
	for _, line := range lines {
		if seen[line] {
			t.Fatalf("twice: %s", line)
		}
		seen[line] = true
		if !good.MatchString(line) {
			t.Fatalf("no record: %s", line)
		}
		if strings.Contains(line, `key="rare-one"`) {
			rare++
		}
	}
	if rare != made.Rare || rare == 0 {
		t.Errorf("%d events with the rare key, told %d", rare, made.Rare)
	}
}
