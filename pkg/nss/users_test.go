package nss

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestUsers lists the accounts in their order: of the file where that is all, else as getent has
// them; what a source says amiss does not hide the file's.
func TestUsers(t *testing.T) {
	const file = "root:x:0:0::/:/bin/sh\nzoe:x:1002:1::/:/x\n#no:x:5:5::/:/x\nbroken\n+nis:x:6:6::/:\nalice:x:1000:1000:A:/home/alice:/bin/sh\nnan:x:y:1::/:\ntwin:x:1000:1::/:/x\n"
	local := []Account{{"root", 0}, {"zoe", 1002}, {"alice", 1000}, {"twin", 1000}}
	for _, c := range []struct {
		name, sources, getent string
		want                  []Account
		fails                 bool
	}{
		{"files", "passwd: files\n", "echo bad:x:1:1::/:", local, false},
		{"directory", "passwd: files sss\n", `[ "$*" = passwd ] && printf 'root:x:0:0::/:/x\nldap:x:70000:1::/:/x\n'`, []Account{{"root", 0}, {"ldap", 70000}}, false},
		{"fails", "passwd: files sss\n", "exit 3", local, true},
		{"hangs", "passwd: files sss\n", "sleep 1000", local, true},
		{"endless", "passwd: files sss\n", "exec cat /dev/zero", local, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if c.name == "hangs" {
				limit = 100 * time.Millisecond
			}
			s := made(t, Config{getents: helper(t, c.getent), limit: limit}, file, c.sources)
			got, err := s.Users()
			if d := cmp.Diff(c.want, got); d != "" || (err != nil) != c.fails {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
}
