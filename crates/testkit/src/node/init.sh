# The first process of a node's namespaces. When it ends, the kernel ends everything in them: containers, mounts, network.
# $1 is the directory of the cluster; what it needs is in $1/node.
set -eu
trap 'exit 0' TERM
dir=$1 name=$2 address=$3 gateway=$4 pods=$5

# Mounts that containers share stay in this namespace. What the programs write outside of the cluster's directory is gone
# with it.
mount --make-rshared /
for path in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$path"; done
mkdir -p /run/lock /run/netns
# kubelet sets these parameters of the machine unless they are what it wants them to be: here they are.
for parameter in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    path=${parameter%=*}
    mkdir -p "/run/parameters/${path%/*}"
    echo "${parameter#*=}" >"/run/parameters/$path"
    mount --bind "/run/parameters/$path" "/proc/sys/$path"
done

# One end of the link is moved here from outside.
while [ ! -e /proc/sys/net/ipv4/conf/plumbline1 ]; do sleep 0.05; done
ip link set lo up
ip address add "$address/30" dev plumbline1
ip link set plumbline1 up
ip route add default via "$gateway"
echo 1 >/proc/sys/net/ipv4/ip_forward
: >"$dir/node/linked"
# The API server comes up meanwhile.
while [ ! -e "$dir/node/begin" ]; do sleep 0.05; done

containerd --config "$dir/node/containerd.toml" >>"$dir/logs/containerd.log" 2>&1 &
containerd=$!
tries=0
while [ ! -S "$dir/node/containerd.sock" ]; do
    kill -0 "$containerd" || { echo "containerd ended:"; tail -n 5 "$dir/logs/containerd.log"; exit 1; }
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "containerd does not listen after 30 s"; exit 1; }
    sleep 0.05
done
"$dir/bin/kube-proxy" --kubeconfig="$dir/pki/kube-proxy.conf" --hostname-override="$name" --proxy-mode=iptables \
    --cluster-cidr="$pods" --conntrack-max-per-core=0 >>"$dir/logs/kube-proxy.log" 2>&1 &
proxy=$!
"$dir/bin/kubelet" --config="$dir/node/kubelet.yaml" --kubeconfig="$dir/pki/kubelet.conf" --hostname-override="$name" \
    --node-ip="$address" --root-dir="$dir/node/kubelet" --cert-dir="$dir/node/kubelet-pki" >>"$dir/logs/kubelet.log" 2>&1 &
kubelet=$!

while :; do
    for one in "containerd $containerd" "kube-proxy $proxy" "kubelet $kubelet"; do
        if ! kill -0 "${one#* }" 2>/dev/null; then
            echo "${one% *} ended; the end of its log:"
            tail -n 5 "$dir/logs/${one% *}.log"
            exit 1
        fi
    done
    sleep 1 &
    wait $!
done
