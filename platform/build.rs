//! Has the platform compiled anew when there is a new migration.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rustc-env=DOTMAC_MIGRATIONS=tracked");
}
