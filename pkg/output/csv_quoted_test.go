package output

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/interpret"
)

// oddParts are what the values of TestCSVQuoted are made of.
var oddParts = []string{
	",", `"`, `""`, "'", "\n", "\r", "\r\n", "\t", " ", "=", "+", "-", "@", "-13", "=1+1", "a", "ü", "\xff", "\u202e", "\uff1d", "|", ";", "\\", "\x1b[31m", "1.5", "日本",
}

// TestCSVQuoted writes odd values as RFC 4180 has it, and a reader of csv gets them back:
// as many cells in each line, no formula, numbers unchanged.
func TestCSVQuoted(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 4180))
	odd := func() string {
		var b strings.Builder
		for range 1 + rng.IntN(4) {
			b.WriteString(oddParts[rng.IntN(len(oddParts))])
		}
		return b.String()
	}
	for range need.Rounds(5000, 500) {
		cmd, exe, key := odd(), odd(), odd()
		log := fmt.Sprintf("node=a,b type=USER_CMD msg=audit(1700000000.007:45): pid=1 uid=0 auid=0 ses=1 msg='cmd=%X exe=%X res=failed'\n"+
			"type=PATH msg=audit(1700000001.007:46): item=0 name=%X\n"+
			"type=SYSCALL msg=audit(1700000002.007:47): arch=c000003e syscall=1 success=yes exit=0 items=0 pid=1 uid=0 auid=0 exe=%X key=%X\n", cmd, exe, cmd, exe, key)
		var out bytes.Buffer
		w := NewWriter(&out, &Config{
			Format: FormatCSV, CSVQuoted: true, Escape: interpret.EscapeRaw, ExtraKeys: true, ExtraLabels: true, ExtraObj2: true, ExtraTime: true, Names: rootOnly{},
		}, time.UTC)
		for _, ev := range eventtest.Parse([]byte(log)) {
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll() // which fails where a row has another number of cells
		if err != nil || len(rows) != 4 {
			t.Fatalf("%q: %v, %d rows", log, err, len(rows))
		}
		for _, c := range []struct {
			row          int
			column, want string
		}{
			{1, "OBJ_PRIME", cmd}, {1, "HOW", exe}, {1, "NODE", "a,b"}, {2, "EVENT", "PATH"}, {2, "HOW", ""}, {3, "KEY", key}, {3, "HOW", exe},
		} {
			got := rows[c.row][slices.Index(rows[0], c.column)]
			want := strings.ReplaceAll(c.want, "\r\n", "\n") // what encoding/csv reads
			if trimmed := strings.TrimLeft(want, " "); beginsFormula([]byte(trimmed)) && !isPlainNumber([]byte(want)) {
				want = "'" + want
			}
			if got != want {
				t.Errorf("%q: %s is %q, want %q", log, c.column, got, want)
			}
		}
	}
}

func TestAppendCSV(t *testing.T) {
	for cell, want := range map[string]string{
		"": "", "a": "a", "a,b": `"a,b"`, `a"b`: `"a""b"`, "a\nb": "\"a\nb\"", " a": `" a"`, "=1": "'=1", "-13": "-13", "+1.5": "+1.5", "-": "'-", "-1-1": "'-1-1",
		"-1.": "'-1.", "\r": "\"'\r\"", "=1,2": `"'=1,2"`, " =1": `"' =1"`, "12": "12", "@a": "'@a", "'=1": "'=1",
	} {
		if got := string(AppendCSV(nil, []byte(cell), true)); got != want {
			t.Errorf("%q: %q, want %q", cell, got, want)
		}
	}
}
