package qupath.fx.dialogs;

public class Dialogs {

    private Dialogs() {
    }

    public static boolean showMessageDialog(String title, String message) {
        return false;
    }

    public static boolean showConfirmDialog(String title, String text) {
        return false;
    }

    public static void showInfoNotification(String title, String message) {
    }
}
