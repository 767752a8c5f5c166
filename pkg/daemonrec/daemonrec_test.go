package daemonrec

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	now := time.Unix(1700000000, 7_000_000)
	r := New(func() time.Time { return now })
	r.serial = 41
	if got := string(r.Append([]byte("node=c type=DAEMON_ERR msg="), "op=%s res=failed", "x")); got != "node=c type=DAEMON_ERR msg=audit(1700000000.007:42): op=x res=failed" {
		t.Error(got)
	}
	if got := string(r.Append(nil, "y")); got != "audit(1700000000.007:43): y" {
		t.Errorf("the next: %s", got)
	}
}

func TestStart(t *testing.T) {
	want := fmt.Sprintf(`^op=start ver=1\.2 format=raw kernel=\d\S* auid=\d+ pid=%d uid=%d ses=\d+ res=success$`, os.Getpid(), os.Getuid())
	if got := Start("1.2", "raw", ""); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := Start("1.2", "enriched", "system_u:r:x"); !regexp.MustCompile(`format=enriched .* ses=\d+ subj=system_u:r:x res=success$`).MatchString(got) {
		t.Error(got)
	}
}

func TestReconfigured(t *testing.T) {
	for want, got := range map[string]string{
		"op=reconfigure state=changed auid=-1 pid=-1 subj=? res=success":       Reconfigured(-1, -1, "", false),
		"op=reconfigure state=no-change auid=1000 pid=7 subj=u:r:t res=failed": Reconfigured(1000, 7, "u:r:t", true),
	} {
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestProcessID(t *testing.T) {
	if got := ProcessID("none", "loginuid"); got != Unset {
		t.Errorf("of no process: %s", got)
	}
	if got := ProcessID("self", "status"); got != Unset {
		t.Errorf("of what is no number: %s", got)
	}
	if got := ProcessID("self", "sessionid"); !regexp.MustCompile(`^\d+$`).MatchString(got) {
		t.Errorf("this process's session: %s", got)
	}
}
