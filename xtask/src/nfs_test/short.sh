# The short form of the tests of NFS, in namespaces of their own.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"
systemctl stop nfs-ganesha rpcbind.socket rpcbind.service
for round in 1 2 3; do for module in /modules/*; do insmod "$module" 2> /dev/null; done; done
lifecycle nfs:: --include-ignored --test-threads=1 > /run/lifecycle
code=$?
cat /run/lifecycle
check "the short form passes" [ $code = 0 ]
check "it is some tests" [ "$(grep -c '^test nfs::.* ok$' /run/lifecycle)" -ge 8 ]
complete
