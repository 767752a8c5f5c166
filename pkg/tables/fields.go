package tables

import (
	"slices"
	"strings"
)

// recordFields are the names of fields that the kernel and the programs which log by it
// write, as far as they are known. Any other may still be in a record.
const recordFields = `
a0 a1 a2 a3 acct acl action added addr apparmor arch argc audit_backlog_limit audit_backlog_wait_time audit_enabled audit_failure auid
banners bool bus call-pid calipso_doi calipso_type cap_fe cap_fi cap_fp cap_frootid cap_fver cap_pa cap_pe cap_pi cap_pp capability category cgroup changed cipher
cipso_doi cipso_type class cmd code comm compat cwd daddr data default-context denied denied_mask dev device dir direction dmac dport dst_prefixlen
egid enforcing entries errno error euid exe exit exit_syscall fam family fd fe feature fi file flags format fowner fp fsgid fsuid fsmagic func fver
gate gid grantors grp gpg_res hash hook hostname icmp_type icmptype id igid img-ctx info inif ino inode inode_gid inode_uid intf invalid_context
ioctlcmd ip ipid ipx-net item items iuid kernel key key_enforce kind ksize laddr len list lport lsm mac macproto maj major minor mode model module monitor mount msg
name nametype nargs nlnk-fam nlnk-grp nlnk-pid nl-mcgrp net new new-auid new-cgroup new-chardev new-disk new-enabled new-fs new-fam new-level new-log_passwd new-mem new-net new-range new-rng
new-role new-seuser new-ses new-smartcard new-usb new-vcpu new_gid new_group new_lock new_pa new_pe new_pi new_pp node nonce nsenter nsec nstamp ntp
oauid obj obj_gid obj_trust obj_uid ocomm oflag ofile ogid old old-auid old-cgroup old-chardev old-disk old-enabled old-fs old-level old-log_passwd old-mem old-net old-range
old-rng old-role old-seuser old-ses old-smartcard old-usb old-vcpu old_enforcing old_lock old_pa old_pe old_pi old_pp old_prom old_val op open_flags opid operation oses ouid outif
pa parent path pe per perm perm_mask permissive permitted pfs pi pid pkt platform policy port pp ppid printer proctitle prog-id profile prom proto protocol
qbytes range rdev reason removed requested_mask res reset resolve resp result resrc rport root_dir rule saddr sauid sec scontext selected-context selfie ses session seperm seperms seqno seresult seuser sgid
sig sigev_signo size slot smac source sp sport spi spid src_prefixlen start state status subj subj_trust success suid sum sw syscall table target tclass tcontext terminal
tlabel tok tos trust tty type uid unit unlbl_accept uri usbdev user userns uuid val val ver version virt vlan vm vm-ctx vm-pid wait_time watch xattr`

// FieldNames returns the names of fields that records are known to have, sorted.
func FieldNames() []string {
	names := strings.Fields(recordFields)
	slices.Sort(names)
	return slices.Compact(names)
}
