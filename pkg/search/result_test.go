package search

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// TestResultInJSON: JSON and -sv agree on whether an event with a decision of SELinux or
// AppArmor succeeded.
func TestResultInJSON(t *testing.T) {
	seed := need.Seed(t)
	format := output.NewFormatter(&output.Config{Format: output.FormatJSON}, time.UTC)
	var x query.Extractor
	said := 0
	for i := range need.Rounds(40, 5) {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		for _, ev := range eventtest.Parse([]byte(madelog.Log(r, 200))) {
			decided := false
			for j := range ev.Records {
				decided = decided || ev.Records[j].Type == tables.AVC || ev.Records[j].Type == tables.UserAVC
			}
			if !decided {
				continue
			}
			want := ""
			x.Extract(ev, func(f query.Field, v []byte) {
				if f == query.FieldSuccess {
					want = map[string]string{"yes": "true", "no": "false"}[string(v)]
				}
			})
			line := string(format.Append(nil, ev))
			_, got, _ := strings.Cut(line, `"success":`)
			switch got, _, _ = strings.Cut(got, ","); got {
			case "true", "false":
				said++
			default: // there is none, or it is a record's
				got = ""
			}
			if got != want {
				t.Errorf("AUDITFLEET_SEED=%d: success %q, -sv %q: %s", seed, got, want, line)
			}
		}
	}
	if said == 0 {
		t.Error("no event had a result")
	}
}
