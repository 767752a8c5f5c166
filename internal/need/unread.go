package need

import "regexp"

var unread = regexp.MustCompile(`Error opening config file \(.*\)\n(?:NOTE - using built-in logs: .*\n)?`)

// Unread takes out of what ausearch or aureport says what they say first of all to a user who may not read
// /etc/audit/auditd.conf, which they look into whatever log is named.
func Unread(said string) string { return unread.ReplaceAllString(said, "") }
