package doctor_test

import (
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/doctor"
)

// TestJournaldAsBuilt: Debian's journald switches auditing off though no file says so, also
// on a machine that was booted with audit=1; journald.conf shows it behind "#".
func TestJournaldAsBuilt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, conf, dropIn string
		want               doctor.State
	}{
		{"Debian's", "#Audit=no\n", "", doctor.Fail},
		{"Debian's, set", "#Audit=no\n", "[Journal]\nAudit=yes\n", doctor.OK},
		{"Debian's, left alone", "#Audit=no\n", "[Journal]\nAudit=\n", doctor.OK},
		{"upstream's", "#Audit=yes\n", "", doctor.OK},
		{"upstream's, set", "#Audit=yes\n", "[Journal]\nAudit=no\n", doctor.Fail},
		{"a remark in a file of one's own", "", "[Journal]\n#Audit=no\n", doctor.OK},
		{"a remark below what is set", "Audit=yes\n#Audit=no\n", "", doctor.OK},
	} {
		h := healthy(t)
		h.Write("/etc/systemd/journald.conf", "[Journal]\n"+c.conf)
		h.Write("/etc/systemd/journald.conf.d/50.conf", c.dropIn)
		for _, f := range doctor.Examine(t.Context(), h.d) {
			if f.Check == "journald" && (f.State != c.want || c.want == doctor.Fail && !strings.Contains(f.What, "switches auditing off")) {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
	}
}
