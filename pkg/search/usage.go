package search

// Usage is the help text: what ausearch understands, in our words.
const Usage = `usage: search [options]        (all conditions must hold)
 what happened
  -a,  --event ID               the event with this serial number
  -m,  --message TYPE[,TYPE]    a record of one of these types, by name or number; may be repeated; ALL is no limit
  -k,  --key TEXT               a rule's key
  -sc, --syscall NAME|NUMBER    the system call
       --arch CPU               its architecture: a name as uname -m prints it, b32 or b64; goes before -sc
  -sv, --success yes|no         whether it succeeded
  -e,  --exit NUMBER|ERRNO      what it returned; errors are negative: -13, -EACCES
 when and where
  -ts, --start [DATE] [TIME]    not before; -te, --end [DATE] [TIME]: not after
                                DATE as the locale writes it (LC_TIME), or now, recent, this-hour, boot, today,
                                yesterday, this-week, week-ago, this-month, this-year; TIME is HH:MM[:SS]
  -n,  --node NAME              the machine; may be repeated
  -hn, --host TEXT              the remote host's name or address
  -tm, --terminal TEXT          the terminal
 who
  -ui, --uid  -ue, --uid-effective  -ul, --loginuid  -ua, --uid-all (any of them)      USER, by name or number
  -gi, --gid  -ge, --gid-effective  -ga, --gid-all (either)                            GROUP, by name or number
  -p,  --pid ID                 the process; -pp, --ppid ID: its parent
       --session ID             the login session
  -c,  --comm TEXT              the command's name
  -x,  --executable TEXT        the program
 on what
  -f,  --file TEXT              a file or socket, or the working directory
  -su, --subject  -o, --object  -se, --context (either)   TEXT of the security context
  -uu, --uuid TEXT              the virtual machine; -vm, --vm-name TEXT
  -w,  --word                   TEXT is all of the value, not a part of it
 results
       --format raw|default|interpret|csv|text      -r, --raw      -i, --interpret
       --escape raw|tty|shell|shell_quote           --extra-keys, --extra-labels, --extra-obj2, --extra-time (csv)
       --just-one               stop after the first
  -l,  --line-buffered          do not hold results back
 input
  -if, --input FILE|FOLDER      instead of the log;  --input-logs: the log even when stdin is a pipe
       --checkpoint FILE        only what was not found the last time; -ts checkpoint: from that time on
       --eoe-timeout SECONDS    how long an event may be incomplete
       --debug                  say what was skipped
  -h,  --help   -v, --version
`
