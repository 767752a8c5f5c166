package cli

// ctlUsage is printed for -h and without any option.
const ctlUsage = `usage: auditctl [options]
    -a <l,a>                          Append rule to end of <l>ist with <a>ction
    -A <l,a>                          Add rule at beginning of <l>ist with <a>ction
    -b <backlog>                      Set how many records may wait in the kernel
    -c                                In a rule file: go on after errors, exit code 1
    -C f=f                            Compare two fields: field, = or !=, field
    -d <l,a>                          Delete rule from <l>ist with <a>ction
                                      l=task,exit,user,exclude,filesystem,io_uring
                                      a=never,always
    -D                                Delete all rules, with -k <key> those with it
    -e [0..2]                         Switch audit: 0=off 1=on 2=on, locked until boot
    -f [0..2]                         Set what happens on failure:
                                      0=silent 1=printk 2=panic
    -F f=v                            Add a condition: field, one of = != < > <= >= & &=,
                                      value
    -h                                Show this
    -i                                In a rule file: go on after errors, exit code 0
    -k <key>                          Set a key to find the rule's events by
    -l                                List rules, with -k <key> those with it, with -i
                                      words for numbers
    -m <text>                         Send a user message
    -p [r|w|x|a]                      Set what a watch is for: read, write, execute,
                                      attribute change
    -q <mount,subtree>                Watch subtree as part of mount's tree
    -r <rate>                         Set limit of records a second (0=none)
    -R <file>                         Read rules from file
    -s                                Show status, with -i words for numbers
    -S <syscall>                      Choose system calls by name or number, or all
    --signal <signal>                 Send TERM, HUP, USR1, USR2 or CONT to the daemon
    -t                                Drop watches of trees that are not mounted
    -v                                Show the version
    -w <path>                         Watch path
    -W <path>                         Remove watch of path
    --loginuid-immutable              Let a login uid be set once only, until boot
    --backlog_wait_time <ticks>       Set how long a program waits for room in the
                                      kernel's queue
    --reset-lost                      Show and reset the count of lost records
    --reset_backlog_wait_time_actual  Show and reset the time programs waited
    --explain                         Before or after the others: print as JSON what a
                                      rule (or -R <file>) would send. Needs no root and
                                      no kernel; --explain --machine <arch> as on a
                                      machine of that architecture
`
